"""What users type that is no flag of ours: names of other programs, and words without a flag."""
