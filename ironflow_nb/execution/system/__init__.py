"""The machine and its surroundings: clock, threads, processes, interrupts, the shell."""
