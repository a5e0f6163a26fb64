"""Records to pages: tables, plots, cards, the family tree, the HTML report. Measures nothing."""
