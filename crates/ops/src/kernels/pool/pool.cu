// Pools: a thread for some neighboring channels of the result, in gradients too, so that every sum has one order. Where
// channels come in fours a thread makes four: what takes longest are not the sums but the indices.

// How many steps of `dilation` lead past `distance`.
__device__ __forceinline__ int steps(int distance, int dilation) {
    return dilation == 1 ? distance : (distance + dilation - 1) / dilation;
}

// The taps of output o that lie inside of an axis of `len`: first … last, the last one excluded.
__device__ __forceinline__ void taps_inside(int o, int len, int kernel, int stride, int dilation, int pad, int &first,
                                            int &last) {
    const int start = o * stride - pad;
    first = start < 0 ? least(steps(-start, dilation), kernel) : 0;
    last = len > start ? least(steps(len - start, dilation), kernel) : 0;
    if (last < first) last = first;
}

// An element of a map of `h` × `w` pixels: which, and where.
struct Element {
    int c, x, y, image;
    __device__ __forceinline__ Element(int at, int h, int w, int channels) {
        const int pixel = at / channels, row = pixel / w;
        c = at - pixel * channels;
        x = pixel - row * w;
        image = row / h;
        y = row - image * h;
    }
};

template <int N> __device__ __forceinline__ void max_pool_of(const Geometry &g, const map *x, map *y, unsigned char *winners) {
    const int at = place() * N;
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const Element o(at, g.oh, g.ow, g.c);
    int top, bottom, left, right;
    taps_inside(o.y, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
    taps_inside(o.x, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
    real best[N];
    int winner[N];
#pragma unroll
    for (int j = 0; j < N; j++) {
        best[j] = 0;
        winner[j] = -1;
    }
    for (int ky = top; ky < bottom; ky++)
        for (int kx = left; kx < right; kx++) {
            const int iy = o.y * g.sh + ky * g.dh - g.ph, ix = o.x * g.sw + kx * g.dw - g.pw;
            real values[N];
            read_some(x + ((o.image * g.h + iy) * g.w + ix) * g.c + o.c, values);
#pragma unroll
            for (int j = 0; j < N; j++)
                if (winner[j] < 0 || values[j] > best[j] || values[j] != values[j]) { // the first of equals; NaN wins
                    best[j] = values[j];
                    winner[j] = ky * g.kw + kx;
                }
        }
    write_some(y + at, best);
    write_some(winners + at, winner);
}

extern "C" __global__ void max_pool(Geometry g, const map *x, map *y, unsigned char *winners, int some) {
    some == 4 ? max_pool_of<4>(g, x, y, winners) : max_pool_of<1>(g, x, y, winners);
}

// The output that reads place i of an axis by a tap of no distance, -1 if none does.
__device__ __forceinline__ int reader(int i, int stride, int outputs) {
    if (i < 0) return -1;
    if (stride > 1) {
        if (i % stride) return -1;
        i /= stride;
    }
    return i < outputs ? i : -1;
}

// Visits the outputs that read an input, tap by tap: `each(tap, row, column, output)`.
template <class Each> __device__ __forceinline__ void readers(const Geometry &g, int at, Each &each) {
    const Element i(at, g.h, g.w, g.c);
    for (int ky = 0; ky < g.kh; ky++) {
        const int y = reader(i.y + g.ph - ky * g.dh, g.sh, g.oh);
        if (y < 0) continue;
        for (int kx = 0; kx < g.kw; kx++) {
            const int x = reader(i.x + g.pw - kx * g.dw, g.sw, g.ow);
            if (x >= 0) each.visit(ky * g.kw + kx, y, x, ((i.image * g.oh + y) * g.ow + x) * g.c + i.c);
        }
    }
}

template <int N> struct OfWinner {
    const map *gy;
    const unsigned char *winners;
    real sum[N];
    __device__ __forceinline__ void visit(int tap, int, int, int output) {
        real of[N], winner[N];
        read_some(gy + output, of);
        read_some(winners + output, winner);
#pragma unroll
        for (int j = 0; j < N; j++)
            if (winner[j] == (real)tap) sum[j] += of[j];
    }
};

template <int N>
__device__ __forceinline__ void max_gradient_of(const Geometry &g, const map *gy, const unsigned char *winners, map *gx) {
    const int at = place() * N;
    if (at >= g.n * g.h * g.w * g.c) return;
    OfWinner<N> each{gy, winners, {0}};
    readers(g, at, each);
    write_some(gx + at, each.sum);
}

extern "C" __global__ void max_pool_gradient(Geometry g, const map *gy, const unsigned char *winners, map *gx, int some) {
    some == 4 ? max_gradient_of<4>(g, gy, winners, gx) : max_gradient_of<1>(g, gy, winners, gx);
}

template <int N> __device__ __forceinline__ void average_of(const Geometry &g, const map *x, map *y) {
    const int at = place() * N;
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const Element o(at, g.oh, g.ow, g.c);
    int top, bottom, left, right;
    taps_inside(o.y, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
    taps_inside(o.x, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
    real sum[N] = {0};
    for (int ky = top; ky < bottom; ky++)
        for (int kx = left; kx < right; kx++) {
            const int iy = o.y * g.sh + ky * g.dh - g.ph, ix = o.x * g.sw + kx * g.dw - g.pw;
            real values[N];
            read_some(x + ((o.image * g.h + iy) * g.w + ix) * g.c + o.c, values);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += values[j];
        }
    const real share = (real)1 / (real)((bottom - top) * (right - left));
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] *= share;
    write_some(y + at, sum);
}

extern "C" __global__ void average_pool(Geometry g, const map *x, map *y, int some) {
    some == 4 ? average_of<4>(g, x, y) : average_of<1>(g, x, y);
}

template <int N> struct OfMean {
    const Geometry &g;
    const map *gy;
    real sum[N];
    __device__ __forceinline__ void visit(int, int oy, int ox, int output) {
        int top, bottom, left, right;
        taps_inside(oy, g.h, g.kh, g.sh, g.dh, g.ph, top, bottom);
        taps_inside(ox, g.w, g.kw, g.sw, g.dw, g.pw, left, right);
        const real share = (real)1 / (real)((bottom - top) * (right - left));
        real of[N];
        read_some(gy + output, of);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] += of[j] * share;
    }
};

template <int N> __device__ __forceinline__ void average_gradient_of(const Geometry &g, const map *gy, map *gx) {
    const int at = place() * N;
    if (at >= g.n * g.h * g.w * g.c) return;
    OfMean<N> each{g, gy, {0}};
    readers(g, at, each);
    write_some(gx + at, each.sum);
}

extern "C" __global__ void average_pool_gradient(Geometry g, const map *gy, map *gx, int some) {
    some == 4 ? average_gradient_of<4>(g, gy, gx) : average_gradient_of<1>(g, gy, gx);
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
