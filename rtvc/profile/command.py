"""`rtvc profile`: its verbs, each imported only when called."""

profile = {
    "diagnose": ("rtvc.profile.diagnose.command", "Name the cause of delay, with figures."),
    "live": ("rtvc.profile.live.command", "Watch a server: sessions, stages, queues, GPU."),
    "gpu": ("rtvc.profile.gpu.command", "Watch the GPU: use, memory by process, power, clocks."),
    "cpu": ("rtvc.profile.cpu.command", "Sample a process: time by pipeline stage, flamegraph."),
    "torch": ("rtvc.profile.torch.command", "Trace a program with torch's profiler."),
    "stages": ("rtvc.profile.stages.command", "Where the delay of a run's turns went."),
    "queues": ("rtvc.profile.queues.command", "What waited in a run's queues, and how long."),
    "logs": ("rtvc.profile.logs.command", "Read the log of RealtimeVoiceChat or WhisperLive."),
    "tap": ("rtvc.profile.tap.command", "Time every turn between clients and any voice server."),
    "doctor": ("rtvc.profile.doctor.command", "Check a deployment for known causes of delay."),
}
"""Verb → the module with a function of its name; its line in the help."""
