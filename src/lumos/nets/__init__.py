"""Networks that return flux PDFs, and a trained one as an estimator."""
