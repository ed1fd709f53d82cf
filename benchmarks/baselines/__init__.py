"""What the benchmarks compare with: each the least that could do the work, or the way it is usually done."""
