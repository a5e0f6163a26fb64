"""What lies on this host: blobs and refs, what is on its way, who uses what, and what may go."""
