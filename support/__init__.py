"""What the scripts stand on; to be read last, or for several processes: command line, signals, files, devices."""
