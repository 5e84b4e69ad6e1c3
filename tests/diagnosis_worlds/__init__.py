"""Worlds to test a diagnosis on: voice-chat servers and their speakers, simulated, sound or ill.

    world.py     what is drawn at random: a machine, a model, habits of a server and its users
    faults.py    what can be wrong with it, and how badly
    kernel.py    simulated time; machine.py: processors and threads that are shared
    engine.py    inference; hearing.py, session.py, server.py: the server; caller.py: its speakers
    figures.py   what the server and the machine tell of themselves; recording.py: the record
    cases.py     a world, its faults, and whether they hurt

A fault changes how something works, never a figure. Nothing here knows how causes are found.
"""
