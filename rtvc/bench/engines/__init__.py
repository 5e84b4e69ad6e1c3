"""The engines that a bench compares: one file each, all behind one contract."""
