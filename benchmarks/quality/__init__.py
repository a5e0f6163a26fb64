"""Is it good: the feature nets and the metrics in them. Knows nothing of speed."""
