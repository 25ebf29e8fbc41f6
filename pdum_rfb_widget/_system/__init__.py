"""The process and its machine: forks, processors, interrupts, threads, failures of callbacks."""
