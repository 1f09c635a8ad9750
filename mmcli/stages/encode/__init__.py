"""What `extract-features` is made of: batches over patients, the pipeline that fills them, what is taken over."""
