"""What the core is compared with, side by side in one run: `python -m benchmarks`."""
