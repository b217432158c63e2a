"""The mean ratio of paired measurements, with its 95% interval."""
import math
import statistics

# Quantiles 0.975 of Student's t for 1 to 30 degrees of freedom.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086]
T += [2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
MOST_PAIRS = len(T) + 1


def ratio(ratios):
    """Returns the mean of at least 2 and at most MOST_PAIRS ratios, and half the width of its interval."""
    return statistics.mean(ratios), T[len(ratios) - 2] * statistics.stdev(ratios) / math.sqrt(len(ratios))
