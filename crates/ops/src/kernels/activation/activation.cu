// Functions of single elements.

// min(max(x, 0), above)
extern "C" __global__ void rectify(const map *x, real above, int len, map *y) {
    const int at = place();
    if (at >= len) return;
    const real value = positive(x[at]);
    y[at] = (map)(value > above ? above : value);
}

// gy where 0 < x < above, else 0
extern "C" __global__ void rectify_gradient(const map *x, const map *gy, real above, int len, map *gx) {
    const int at = place();
    if (at >= len) return;
    gx[at] = x[at] > (real)0 && x[at] < above ? gy[at] : (map)0;
}
