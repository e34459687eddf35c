"""The k-Same family (Newton et al. 2005, Gross et al. 2005 and 2006, Meden et al. 2018): k people share one face."""
