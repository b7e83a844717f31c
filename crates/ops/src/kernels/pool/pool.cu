// Pools: a thread for each element of the result, in gradients too, so that every sum has one order.

// The taps of output o that lie inside of an axis of `len`: first … last, the last one excluded.
__device__ __forceinline__ void taps_inside(int o, int len, int kernel, int stride, int dilation, int pad, int &first,
                                            int &last) {
    const int start = o * stride - pad;
    first = start < 0 ? least((-start + dilation - 1) / dilation, kernel) : 0;
    last = len > start ? least((len - start + dilation - 1) / dilation, kernel) : 0;
    if (last < first) last = first;
}

extern "C" __global__ void max_pool(Geometry g, const map *x, map *y, unsigned char *winners) {
    const int at = place();
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const int c = at % g.c, pixel = at / g.c;
    const int ox = pixel % g.ow, oy = pixel / g.ow % g.oh, image = pixel / (g.ow * g.oh);
    int top, bottom, left, right;
    taps_inside(oy, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
    taps_inside(ox, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
    real best = 0;
    int winner = -1;
    for (int ky = top; ky < bottom; ky++)
        for (int kx = left; kx < right; kx++) {
            const int iy = oy * g.sh + ky * g.dh - g.ph, ix = ox * g.sw + kx * g.dw - g.pw;
            const real value = x[((image * g.h + iy) * g.w + ix) * g.c + c];
            if (winner < 0 || value > best || value != value) { // of equal values the first stays; NaN wins
                best = value;
                winner = ky * g.kw + kx;
            }
        }
    y[at] = (map)best;
    winners[at] = (unsigned char)winner;
}

// Visits the outputs that read an input, tap by tap: `each(tap, output)`.
template <class Each> __device__ __forceinline__ void readers(const Geometry &g, int at, Each &each) {
    const int c = at % g.c, pixel = at / g.c;
    const int ix = pixel % g.w, iy = pixel / g.w % g.h, image = pixel / (g.w * g.h);
    for (int ky = 0; ky < g.kh; ky++) {
        const int y = iy + g.ph - ky * g.dh;
        if (y < 0 || y % g.sh || y / g.sh >= g.oh) continue;
        for (int kx = 0; kx < g.kw; kx++) {
            const int x = ix + g.pw - kx * g.dw;
            if (x < 0 || x % g.sw || x / g.sw >= g.ow) continue;
            each.visit(ky * g.kw + kx, y / g.sh, x / g.sw, ((image * g.oh + y / g.sh) * g.ow + x / g.sw) * g.c + c);
        }
    }
}

struct OfWinner {
    const map *gy;
    const unsigned char *winners;
    real sum;
    __device__ __forceinline__ void visit(int tap, int, int, int output) {
        if (winners[output] == tap) sum += gy[output];
    }
};

extern "C" __global__ void max_pool_gradient(Geometry g, const map *gy, const unsigned char *winners, map *gx) {
    const int at = place();
    if (at >= g.n * g.h * g.w * g.c) return;
    OfWinner each{gy, winners, 0};
    readers(g, at, each);
    gx[at] = (map)each.sum;
}

// How many pixels of the map the window of output (oy, ox) covers.
__device__ __forceinline__ int covered(const Geometry &g, int oy, int ox) {
    int top, bottom, left, right;
    taps_inside(oy, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
    taps_inside(ox, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
    return (bottom - top) * (right - left);
}

extern "C" __global__ void average_pool(Geometry g, const map *x, map *y) {
    const int at = place();
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const int c = at % g.c, pixel = at / g.c;
    const int ox = pixel % g.ow, oy = pixel / g.ow % g.oh, image = pixel / (g.ow * g.oh);
    int top, bottom, left, right;
    taps_inside(oy, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
    taps_inside(ox, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
    real sum = 0;
    for (int ky = top; ky < bottom; ky++)
        for (int kx = left; kx < right; kx++) {
            const int iy = oy * g.sh + ky * g.dh - g.ph, ix = ox * g.sw + kx * g.dw - g.pw;
            sum += x[((image * g.h + iy) * g.w + ix) * g.c + c];
        }
    y[at] = (map)(sum * ((real)1 / (real)((bottom - top) * (right - left))));
}

struct OfMean {
    const Geometry &g;
    const map *gy;
    real sum;
    __device__ __forceinline__ void visit(int, int oy, int ox, int output) {
        sum += gy[output] * ((real)1 / (real)covered(g, oy, ox));
    }
};

extern "C" __global__ void average_pool_gradient(Geometry g, const map *gy, map *gx) {
    const int at = place();
    if (at >= g.n * g.h * g.w * g.c) return;
    OfMean each{g, gy, 0};
    readers(g, at, each);
    gx[at] = (map)each.sum;
}

// Part i of n of an axis: first … last, the last one excluded.
__device__ __forceinline__ void part(int i, int len, int parts, int &first, int &last) {
    first = i * len / parts;
    last = ((i + 1) * len + parts - 1) / parts;
}

extern "C" __global__ void adaptive_pool(Geometry g, const map *x, map *y) {
    const int at = place();
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const int c = at % g.c, pixel = at / g.c;
    const int ox = pixel % g.ow, oy = pixel / g.ow % g.oh, image = pixel / (g.ow * g.oh);
    int top, bottom, left, right;
    part(oy, g.h, g.oh, top, bottom);
    part(ox, g.w, g.ow, left, right);
    real sum = 0;
    for (int iy = top; iy < bottom; iy++)
        for (int ix = left; ix < right; ix++) sum += x[((image * g.h + iy) * g.w + ix) * g.c + c];
    y[at] = (map)(sum * ((real)1 / (real)((bottom - top) * (right - left))));
}

extern "C" __global__ void adaptive_pool_gradient(Geometry g, const map *gy, map *gx) {
    const int at = place();
    if (at >= g.n * g.h * g.w * g.c) return;
    const int c = at % g.c, pixel = at / g.c;
    const int ix = pixel % g.w, iy = pixel / g.w % g.h, image = pixel / (g.w * g.h);
    real sum = 0;
    for (int oy = 0; oy < g.oh; oy++) {
        int top, bottom;
        part(oy, g.h, g.oh, top, bottom);
        if (iy < top || iy >= bottom) continue;
        for (int ox = 0; ox < g.ow; ox++) {
            int left, right;
            part(ox, g.w, g.ow, left, right);
            if (ix < left || ix >= right) continue;
            const real share = (real)1 / (real)((bottom - top) * (right - left));
            sum += gy[((image * g.oh + oy) * g.ow + ox) * g.c + c] * share;
        }
    }
    gx[at] = (map)sum;
}
