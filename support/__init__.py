"""What a student never needs to open: command line, signals, files, devices, processes, provenance."""
