"""From recordings to episodes to a dataset: judging, cutting, aligning, in parallel, with a report."""
