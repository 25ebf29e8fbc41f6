"""The process and its machine: forks, processors, interrupts, threads, errors of callbacks."""
