"""What every room needs: checks, configs, whole files, the command line, tables, models."""
