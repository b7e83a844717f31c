// Depthwise convolution: a thread for each element of the result; neighboring threads have neighboring channels.

extern "C" __global__ void depthwise_forward(Geometry g, const map *x, const real *w, map *y) {
    const int at = place();
    if (at >= g.n * g.oh * g.ow * g.c) return;
    const int c = at % g.c, pixel = at / g.c;
    const int ox = pixel % g.ow, oy = pixel / g.ow % g.oh, image = pixel / (g.ow * g.oh);
    real sum = 0;
    for (int ky = 0; ky < g.kh; ky++) {
        const int iy = oy * g.sh + ky * g.dh - g.ph;
        if (iy < 0 || iy >= g.h) continue;
        for (int kx = 0; kx < g.kw; kx++) {
            const int ix = ox * g.sw + kx * g.dw - g.pw;
            if (ix < 0 || ix >= g.w) continue;
            const real value = x[((image * g.h + iy) * g.w + ix) * g.c + c];
            sum += (g.relu ? positive(value) : value) * w[(ky * g.kw + kx) * g.c + c];
        }
    }
    y[at] = (map)sum;
}

extern "C" __global__ void depthwise_input_gradient(
    Geometry g, const map *gy, const real *w, const map *x, map *gx) {
    const int at = place();
    if (at >= g.n * g.h * g.w * g.c) return;
    if (g.relu && !(x[at] > (real)0)) {
        gx[at] = (map)0;
        return;
    }
    const int c = at % g.c, pixel = at / g.c;
    const int ix = pixel % g.w, iy = pixel / g.w % g.h, image = pixel / (g.w * g.h);
    real sum = 0;
    for (int ky = 0; ky < g.kh; ky++) {
        const int y = iy + g.ph - ky * g.dh;
        if (y < 0 || y % g.sh || y / g.sh >= g.oh) continue;
        for (int kx = 0; kx < g.kw; kx++) {
            const int x = ix + g.pw - kx * g.dw;
            if (x < 0 || x % g.sw || x / g.sw >= g.ow) continue;
            sum += gy[((image * g.oh + y / g.sh) * g.ow + x / g.sw) * g.c + c] * w[(ky * g.kw + kx) * g.c + c];
        }
    }
    gx[at] = (map)sum;
}

// What a slice of pixels adds to the gradient of the weights: a block for each tap, some channels and a slice.
extern "C" __global__ void depthwise_weight_gradient(
    Geometry g, const map *x, const map *gy, int pixels, real *parts) {
    __shared__ double sums[2][256];
    const int c = blockIdx.x * blockDim.x + threadIdx.x, tap = blockIdx.y;
    const int first = blockIdx.z * pixels, last = least(first + pixels, g.n * g.oh * g.ow);
    const int dy = tap / g.kw * g.dh - g.ph, dx = tap % g.kw * g.dw - g.pw;
    real sum = 0;
    for (int m = first + threadIdx.y; m < last && c < g.c; m += blockDim.y) {
        const int ix = m % g.ow * g.sw + dx, iy = m / g.ow % g.oh * g.sh + dy, image = m / (g.ow * g.oh);
        if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
        const real value = x[((image * g.h + iy) * g.w + ix) * g.c + c];
        sum += (g.relu ? positive(value) : value) * gy[m * g.c + c];
    }
    add_columns(sums, (double)sum, 0);
    if (threadIdx.y == 0 && c < g.c) parts[(blockIdx.z * g.kh * g.kw + tap) * g.c + c] = (real)sums[0][threadIdx.x];
}
