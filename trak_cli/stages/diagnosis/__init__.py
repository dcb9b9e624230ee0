"""What `trak doctor` checks, measures and recommends."""
