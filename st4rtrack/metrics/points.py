"""Point errors: EPE and APD (paper section 4.2). Lower EPE is better, higher APD is better."""

import numpy as np

APD_THRESHOLDS_M = (0.1, 0.3, 0.5, 1.0)


def end_point_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distance [...] between corresponding points [..., 3], in their unit."""
    return np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)


def average_points_within_distance(error_m: np.ndarray) -> float:
    """APD in percent: the share of errors [...] (metres) within a threshold, averaged over 0.1, 0.3, 0.5 and 1 m. NaN without points."""
    error_m = np.asarray(error_m)
    if error_m.size == 0:
        return float("nan")
    return float(100 * np.mean([(error_m <= threshold).mean() for threshold in APD_THRESHOLDS_M]))
