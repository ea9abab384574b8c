"""What this machine has and lacks, which model fits it, and where the time of a run goes."""
