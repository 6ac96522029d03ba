"""What `./run bench` measures of the analysis: throughput and memory, and how often intervals cover the truth."""
