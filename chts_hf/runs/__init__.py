"""What every recipe shares: arguments, the results of a run, its picture."""
