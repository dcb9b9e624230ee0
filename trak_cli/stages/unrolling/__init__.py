"""What `trak unroll` consists of: targets, the replayed training, saved progress, and the check by removals."""
