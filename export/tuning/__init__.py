"""The fastest executor that is exact enough, for each batch size on this host: candidates, measuring, the record."""
