// Cross-entropy: a thread for each sample, in double precision whatever the logits.

// losses[n] is the sample's part of the mean loss, right[n] whether its largest logit, the first on ties, is at its label.
extern "C" __global__ void cross_entropy(const map *logits, const unsigned int *labels, double smoothing, int samples,
                                         int classes, double *losses, double *right, map *grad) {
    const int n = place();
    if (n >= samples) return;
    const map *row = logits + n * classes;
    const int label = labels[n];
    int best = 0;
    for (int o = 1; o < classes; o++)
        if (row[o] > row[best]) best = o;
    const double most = row[best];
    double sum = 0;
    for (int o = 0; o < classes; o++) sum += exp((double)row[o] - most);
    const double log_sum = log(sum);
    double loss = 0;
    for (int o = 0; o < classes; o++) {
        const double target = smoothing / classes + (o == label ? 1 - smoothing : 0);
        if (target != 0) loss -= target * ((double)row[o] - most - log_sum);
        grad[n * classes + o] = (map)((exp((double)row[o] - most) / sum - target) / samples);
    }
    losses[n] = loss / samples;
    right[n] = best == label;
}
