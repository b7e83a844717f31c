// Dense convolution as an implicit matrix product: rows are pixels, columns channels, and what is summed over are the
// taps' channels, gathered as they are needed. A block of 128 threads makes a tile of BM × BN; each thread keeps
// TM × TN of it in registers. `matrix.cu` does the same with matrix units.

#define CONV_THREADS 128
#define CONV_DEPTH 16

// What lies at one tap's channel.
struct Tap {
    int dy, dx, channel;
    bool inside;
};

// y[o, co] = Σ prelude(x[o·stride + tap·dilation − pad, ci]) · w[tap, ci, co] + bias[co]
struct Outputs {
    static const bool DEPTH_FIRST = false; // weights of one tap's channel lie side by side
    Geometry g;
    const map *x;
    const real *w, *bias;
    map *y;

    __device__ __forceinline__ const map *source() const { return x; }
    __device__ __forceinline__ bool rectifies() const { return g.relu; } // the source
    __device__ __forceinline__ int channels() const { return g.c; } // of the source
    __device__ __forceinline__ int rows() const { return g.n * g.oh * g.ow; }
    __device__ __forceinline__ int columns() const { return g.oc; }
    __device__ __forceinline__ int depth() const { return g.kh * g.kw * g.c; }

    // Where the window of pixel m starts: its image, row and column.
    __device__ __forceinline__ void window(int m, int &base, int &top, int &left) const {
        const int image = m / (g.oh * g.ow), pixel = m % (g.oh * g.ow);
        base = image * g.h * g.w;
        top = pixel / g.ow * g.sh - g.ph;
        left = pixel % g.ow * g.sw - g.pw;
    }
    __device__ __forceinline__ Tap tap(int k) const {
        const int at = k / g.c;
        return Tap{at / g.kw * g.dh, at % g.kw * g.dw, k % g.c, k < depth()};
    }
    __device__ __forceinline__ real value(const Tap &tap, int base, int top, int left) const {
        const int y = top + tap.dy, x = left + tap.dx;
        if (!tap.inside || y < 0 || y >= g.h || x < 0 || x >= g.w) return 0;
        const real value = this->x[(base + y * g.w + x) * g.c + tap.channel];
        return g.relu ? positive(value) : value;
    }
    __device__ __forceinline__ real weight(int k, int n) const {
        return k < depth() && n < g.oc ? w[k * g.oc + n] : (real)0;
    }
    __device__ __forceinline__ void store(int m, int n, real sum) const {
        y[m * g.oc + n] = (map)(bias ? sum + bias[n] : sum);
    }
};

// gx[i, ci] = Σ gy[o, co] · w[tap, ci, co] over the outputs that read input i: o·stride = i + pad − tap·dilation
struct Inputs {
    static const bool DEPTH_FIRST = true;
    Geometry g;
    const map *gy;
    const real *w;
    const map *x;
    map *gx;

    __device__ __forceinline__ const map *source() const { return gy; }
    __device__ __forceinline__ bool rectifies() const { return false; }
    __device__ __forceinline__ int channels() const { return g.oc; }
    __device__ __forceinline__ int rows() const { return g.n * g.h * g.w; }
    __device__ __forceinline__ int columns() const { return g.c; }
    __device__ __forceinline__ int depth() const { return g.kh * g.kw * g.oc; }

    __device__ __forceinline__ void window(int m, int &base, int &top, int &left) const {
        const int image = m / (g.h * g.w), pixel = m % (g.h * g.w);
        base = image * g.oh * g.ow;
        top = pixel / g.w + g.ph;
        left = pixel % g.w + g.pw;
    }
    __device__ __forceinline__ Tap tap(int k) const {
        const int at = k / g.oc;
        return Tap{at / g.kw * g.dh, at % g.kw * g.dw, k % g.oc, k < depth()};
    }
    __device__ __forceinline__ real value(const Tap &tap, int base, int top, int left) const {
        int y = top - tap.dy, x = left - tap.dx;
        if (!tap.inside || y < 0 || x < 0) return 0;
        if (g.sh > 1 || g.sw > 1) {
            if (y % g.sh || x % g.sw) return 0;
            y /= g.sh;
            x /= g.sw;
        }
        return y < g.oh && x < g.ow ? (real)gy[(base + y * g.ow + x) * g.oc + tap.channel] : (real)0;
    }
    __device__ __forceinline__ real weight(int k, int n) const {
        return k < depth() && n < g.c ? w[(k / g.oc * g.c + n) * g.oc + k % g.oc] : (real)0;
    }
    __device__ __forceinline__ void store(int m, int n, real sum) const {
        const int at = m * g.c + n;
        gx[at] = (map)(g.relu && !(x[at] > (real)0) ? (real)0 : sum);
    }
};

template <class Problem, int BM, int BN, int TM, int TN> __device__ __forceinline__ void product(const Problem &p) {
    __shared__ real a[CONV_DEPTH][BM + 2]; // two more, so that a half-warp's stores meet different banks
    __shared__ real b[CONV_DEPTH][BN + 2];
    __shared__ int base[BM], top[BM], left[BM];
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    const int row = t / (BN / TN) * TM, column = t % (BN / TN) * TN;
    for (int m = t; m < BM; m += CONV_THREADS) p.window(least(first_row + m, p.rows() - 1), base[m], top[m], left[m]);
    real sum[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) sum[i][j] = 0;
    for (int k0 = 0; k0 < p.depth(); k0 += CONV_DEPTH) {
        __syncthreads();
        const int k = t % CONV_DEPTH;
        const Tap tap = p.tap(k0 + k);
#pragma unroll 4
        for (int m = t / CONV_DEPTH; m < BM; m += CONV_THREADS / CONV_DEPTH)
            a[k][m] = p.value(tap, base[m], top[m], left[m]);
        for (int i = t; i < CONV_DEPTH * BN; i += CONV_THREADS) {
            const int at = Problem::DEPTH_FIRST ? i % CONV_DEPTH : i / BN;
            const int n = Problem::DEPTH_FIRST ? i / CONV_DEPTH : i % BN;
            b[at][n] = p.weight(k0 + at, first_column + n);
        }
        __syncthreads();
#pragma unroll
        for (int at = 0; at < CONV_DEPTH; at++) {
            real left_factor[TM], right_factor[TN];
#pragma unroll
            for (int i = 0; i < TM; i++) left_factor[i] = a[at][row + i];
#pragma unroll
            for (int j = 0; j < TN; j++) right_factor[j] = b[at][column + j];
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) sum[i][j] += left_factor[i] * right_factor[j];
        }
    }
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const int m = first_row + row + i, n = first_column + column + j;
            if (m < p.rows() && n < p.columns()) p.store(m, n, sum[i][j]);
        }
}

// What pixels first … last add to the gradient of the weights: rows are the taps' channels, columns channels.
template <int BM, int BN, int TM, int TN>
__device__ __forceinline__ void weight_product(const Outputs &p, const map *gy, int pixels, real *parts) {
    __shared__ real a[CONV_DEPTH][BM];
    __shared__ real b[CONV_DEPTH][BN];
    __shared__ int base[CONV_DEPTH], top[CONV_DEPTH], left[CONV_DEPTH];
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    const int row = t / (BN / TN) * TM, column = t % (BN / TN) * TN;
    const int first = blockIdx.z * pixels, last = least(first + pixels, p.rows());
    const Tap tap = p.tap(first_row + t % BM);
    real sum[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) sum[i][j] = 0;
    for (int m0 = first; m0 < last; m0 += CONV_DEPTH) {
        __syncthreads();
        if (t < CONV_DEPTH) p.window(least(m0 + t, p.rows() - 1), base[t], top[t], left[t]);
        __syncthreads();
#pragma unroll 4
        for (int m = t / BM; m < CONV_DEPTH; m += CONV_THREADS / BM)
            a[m][t % BM] = m0 + m < last ? p.value(tap, base[m], top[m], left[m]) : (real)0;
        for (int i = t; i < CONV_DEPTH * BN; i += CONV_THREADS) {
            const int m = m0 + i / BN, n = first_column + i % BN;
            b[i / BN][i % BN] = m < last && n < p.g.oc ? (real)gy[m * p.g.oc + n] : (real)0;
        }
        __syncthreads();
#pragma unroll
        for (int at = 0; at < CONV_DEPTH; at++) {
            real left_factor[TM], right_factor[TN];
#pragma unroll
            for (int i = 0; i < TM; i++) left_factor[i] = a[at][row + i];
#pragma unroll
            for (int j = 0; j < TN; j++) right_factor[j] = b[at][column + j];
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) sum[i][j] += left_factor[i] * right_factor[j];
        }
    }
    const int weights = p.depth() * p.g.oc;
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const int k = first_row + row + i, n = first_column + column + j;
            if (k < p.depth() && n < p.g.oc) parts[blockIdx.z * weights + k * p.g.oc + n] = sum[i][j];
        }
}

// The moments of each channel over the rows of this block's tile, as `moments` takes them: its mean and the sum of squares
// about it. Reads what the block has just written, which is in the nearest cache.
template <int BM, int BN> __device__ __forceinline__ void tile_moments(const Geometry &g, const map *y, double *parts) {
    const int SHARE = CONV_THREADS / BN; // threads that share a column
    __shared__ real sums[2][CONV_THREADS];
    const int t = threadIdx.x, n = blockIdx.y * BN + t % BN;
    const int first = blockIdx.x * BM, last = least(first + BM, g.n * g.oh * g.ow);
    __syncthreads(); // the tile is written
    real pivot = 0, a = 0, b = 0;
    if (n < g.oc) {
        pivot = y[first * g.oc + n];
        for (int m = first + t / BN; m < last; m += SHARE) {
            const real value = (real)y[m * g.oc + n] - pivot;
            a += value;
            b += value * value;
        }
    }
    sums[0][t] = a;
    sums[1][t] = b;
    __syncthreads();
    if (t >= BN || n >= g.oc) return;
    double sum = 0, squares = 0;
    for (int i = t; i < CONV_THREADS; i += BN) {
        sum += sums[0][i];
        squares += sums[1][i];
    }
    about_mean(pivot, last - first, sum, squares);
    parts[blockIdx.x * 2 * g.oc + n] = sum;
    parts[(blockIdx.x * 2 + 1) * g.oc + n] = squares;
}

// Fully connected layers are products of single pixels, with neither many rows nor columns. They have kernels of their
// own, which never use TF32: nor does PyTorch, unless it is told to.
extern "C" __global__ void __launch_bounds__(CONV_THREADS) linear_forward(
    Geometry g, const map *x, const real *w, const real *bias, map *y, double *parts) {
    product<Outputs, 32, 32, 2, 4>(Outputs{g, x, w, bias, y});
    if (parts) tile_moments<32, 32>(g, y, parts);
}

extern "C" __global__ void __launch_bounds__(CONV_THREADS) linear_input_gradient(
    Geometry g, const map *gy, const real *w, const map *x, map *gx) {
    product<Inputs, 32, 32, 2, 4>(Inputs{g, gy, w, x, gx});
}

extern "C" __global__ void __launch_bounds__(CONV_THREADS) linear_weight_gradient(
    Geometry g, const map *x, const map *gy, int pixels, real *parts) {
    weight_product<64, 32, 4, 4>(Outputs{g, x, nullptr, nullptr, nullptr}, gy, pixels, parts);
}

// One kernel for each size of tile: 64 × 16 for few channels, 32 × 32 for few pixels, else 64 × 32 and 64 × 64. What follows
// the size says how its product is shared out: here by rows and columns of a thread, in `matrix.cu` by warps and stages.
#ifdef MATRIX_UNITS
#define PRODUCT matrix_product
#define WEIGHT_PRODUCT matrix_weight_product
#else
#define PRODUCT product
#define WEIGHT_PRODUCT weight_product
#endif
#define CONV_KERNELS(BM, BN, ...)                                                                                      \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_forward_##BM##x##BN(                              \
        Geometry g, const map *x, const real *w, const real *bias, map *y, double *parts) {                            \
        PRODUCT<Outputs, BM, BN, __VA_ARGS__>(Outputs{g, x, w, bias, y});                                              \
        if (parts) tile_moments<BM, BN>(g, y, parts);                                                                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_input_gradient_##BM##x##BN(                       \
        Geometry g, const map *gy, const real *w, const map *x, map *gx) {                                             \
        PRODUCT<Inputs, BM, BN, __VA_ARGS__>(Inputs{g, gy, w, x, gx});                                                 \
    }
#define CONV_WEIGHT_KERNELS(BM, BN, ...)                                                                               \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_weight_gradient_##BM##x##BN(                      \
        Geometry g, const map *x, const map *gy, int pixels, real *parts) {                                            \
        WEIGHT_PRODUCT<BM, BN, __VA_ARGS__>(Outputs{g, x, nullptr, nullptr, nullptr}, gy, pixels, parts);              \
    }

#ifndef MATRIX_UNITS
CONV_KERNELS(64, 16, 4, 2)
CONV_KERNELS(32, 32, 2, 4)
CONV_KERNELS(64, 32, 4, 4)
CONV_KERNELS(64, 64, 8, 4)

CONV_WEIGHT_KERNELS(64, 16, 4, 2)
CONV_WEIGHT_KERNELS(64, 32, 4, 4)
#endif
