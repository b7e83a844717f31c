// Functions of single elements.

// min(max(x, 0), above)
extern "C" __global__ void rectify(const real *x, real above, int len, real *y) {
    const int at = place();
    if (at >= len) return;
    const real value = positive(x[at]);
    y[at] = value > above ? above : value;
}

// gy where 0 < x < above, else 0
extern "C" __global__ void rectify_gradient(const real *x, const real *gy, real above, int len, real *gx) {
    const int at = place();
    if (at >= len) return;
    gx[at] = x[at] > (real)0 && x[at] < above ? gy[at] : (real)0;
}
