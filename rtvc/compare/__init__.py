"""Two runs side by side: may they be compared, what differs, and could it be chance?"""
