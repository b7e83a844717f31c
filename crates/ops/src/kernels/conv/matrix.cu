// Dense convolution with matrix units: the products of `conv.cu`, tile for tile, by the same 128 threads. A warp makes a
// part of the tile in fragments. Factors come in fours, STAGE of a row at a time: while one stage is multiplied, the next
// is on its way from memory; two stages take turns in shared memory.

#ifdef MATRIX_UNITS
static_assert(STAGE == 16 && CONV_THREADS == 128, "places in a stage are shared out so");

// A tap's channel, which moves on without divisions.
struct Cursor {
    int ky, kx, channel;

    __device__ __forceinline__ void move(int by, int channels, int kw) {
        channel += by;
        while (channel >= channels) {
            channel -= channels;
            if (++kx == kw) {
                kx = 0;
                ky++;
            }
        }
    }
    __device__ __forceinline__ Tap tap(const Geometry &g) const {
        return Tap{ky * g.dh, kx * g.dw, channel, ky < g.kh};
    }
};

// Four tap's channels one by one, where they do not come in fours.
template <class Problem>
__device__ __forceinline__ void gather_singly(const Problem &p, Cursor at, int base, int top, int left,
                                              real (&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        values[j] = p.value(at.tap(p.g), base, top, left);
        at.move(1, p.channels(), p.g.kw);
    }
}

// What the forward and the gradient at the weights gather: four neighboring tap's channels of a window.
__device__ __forceinline__ void gather(const Outputs &p, bool fours, Cursor at, int base, int top, int left,
                                       real (&values)[4]) {
    const Geometry &g = p.g;
    if (!fours) return gather_singly(p, at, base, top, left, values);
    const int y = top + at.ky * g.dh, x = left + at.kx * g.dw;
    values[0] = values[1] = values[2] = values[3] = 0;
    if (at.ky >= g.kh || y < 0 || y >= g.h || x < 0 || x >= g.w) return;
    read_four(p.x + (base + y * g.w + x) * g.c + at.channel, values);
    if (g.relu)
#pragma unroll
        for (int j = 0; j < 4; j++) values[j] = positive(values[j]);
}

// What the gradient at the inputs gathers: four channels of the output that reads a pixel by a tap.
__device__ __forceinline__ void gather(const Inputs &p, bool fours, Cursor at, int base, int top, int left,
                                       real (&values)[4]) {
    const Geometry &g = p.g;
    if (!fours) return gather_singly(p, at, base, top, left, values);
    int y = top - at.ky * g.dh, x = left - at.kx * g.dw;
    values[0] = values[1] = values[2] = values[3] = 0;
    if (at.ky >= g.kh || y < 0 || x < 0) return;
    if (g.sh > 1 || g.sw > 1) {
        if (y % g.sh || x % g.sw) return;
        y /= g.sh;
        x /= g.sw;
    }
    if (y < g.oh && x < g.ow) read_four(p.gy + (base + y * g.ow + x) * g.oc + at.channel, values);
}

// Weights of one tap's channel lie side by side, by outputs: a thread reads four of those.
__device__ __forceinline__ void weights(const Outputs &p, bool fours, const Cursor &, int k, int n, real (&values)[4]) {
    const int oc = p.g.oc;
    values[0] = values[1] = values[2] = values[3] = 0;
    if (k >= p.depth()) return;
    if (fours) {
        if (n < oc) read_four(p.w + k * oc + n, values);
    } else {
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (n + j < oc) values[j] = p.w[k * oc + n + j];
    }
}

// Here what is summed over lies side by side: a thread reads four of that, of input channel n.
__device__ __forceinline__ void weights(const Inputs &p, bool fours, Cursor at, int, int n, real (&values)[4]) {
    const Geometry &g = p.g;
    values[0] = values[1] = values[2] = values[3] = 0;
    const auto here = [&] { return p.w + ((at.ky * g.kw + at.kx) * g.c + n) * g.oc + at.channel; };
    if (n >= g.c) return;
    if (fours) {
        if (at.ky < g.kh) read_four(here(), values);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (at.ky < g.kh) values[j] = *here();
        at.move(1, g.oc, g.kw);
    }
}

// Four factors side by side.
__device__ __forceinline__ void put_along(factor *row, const real (&values)[4]) {
    Four<factor> four;
#pragma unroll
    for (int j = 0; j < 4; j++) four.of[j] = to_factor(values[j]);
    *(Four<factor> *)row = four;
}

// Four factors in four rows.
__device__ __forceinline__ void put_across(factor *first, const real (&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; j++) first[j * STRIDE] = to_factor(values[j]);
}

// Makes a tile of BM × BN sums over first … last, of which WARPS of the four warps share the rows and all others the
// columns: `fetch(k)` reads a stage into registers, `put(which)` writes it to shared memory, `store(row, column, sum)`
// takes the results.
template <int BM, int BN, int WARPS, class Fetch, class Put, class Store>
__device__ __forceinline__ void matrix_tile(const factor (&a)[2][BM][STRIDE], const factor (&b)[2][BN][STRIDE],
                                            int first, int last, const Fetch &fetch, const Put &put,
                                            const Store &store) {
    const int M = BM / WARPS / 16, N = BN * WARPS / 4 / 8; // fragments of a warp
    const int warp = threadIdx.x / 32, first_row = warp % WARPS * 16 * M, first_column = warp / WARPS * 8 * N;
    real sum[M][N][4];
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0;
    fetch(first);
    put(0);
    __syncthreads();
    for (int k = first, stage = 0; k < last; k += STAGE, stage ^= 1) {
        const bool more = k + STAGE < last;
        if (more) fetch(k + STAGE);
        multiply_stage(sum, &a[stage][first_row][0], &b[stage][first_column][0]);
        if (more) put(stage ^ 1);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                store(first_row + 16 * i + sum_row(e), first_column + 8 * j + sum_column(e), sum[i][j][e]);
}

template <class Problem, int BM, int BN, int WARPS> __device__ __forceinline__ void matrix_product(const Problem &p) {
    const int ROWS = BM / 32, COLUMNS = (BN + 31) / 32; // fours of a thread
    __shared__ __align__(16) factor a[2][BM][STRIDE];
    __shared__ __align__(16) factor b[2][BN][STRIDE];
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    // A thread reads four neighboring depths of some rows; of columns, too, where depths lie side by side.
    const int row = t / 4, along = t % 4 * 4, depth = t % STAGE, column = t / STAGE * 4;
    const bool fours = in_fours(p.source(), p.channels()), weight_fours = in_fours(p.w, p.g.oc);
    int base[ROWS], top[ROWS], left[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        p.window(least(first_row + row + 32 * i, p.rows() - 1), base[i], top[i], left[i]);
    Cursor at{0, 0, 0};
    at.move(along, p.channels(), p.g.kw);
    real of_a[ROWS][4], of_b[COLUMNS][4];
    const auto fetch = [&](int k) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) gather(p, fours, at, base[i], top[i], left[i], of_a[i]);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            weights(p, weight_fours, at, k + depth, first_column + (Problem::DEPTH_FIRST ? row : column) + 32 * i, of_b[i]);
        at.move(STAGE, p.channels(), p.g.kw);
    };
    const auto put = [&](int stage) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) put_along(&a[stage][row + 32 * i][along], of_a[i]);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            if (Problem::DEPTH_FIRST && row + 32 * i < BN) put_along(&b[stage][row + 32 * i][along], of_b[i]);
            if (!Problem::DEPTH_FIRST && column + 32 * i < BN) put_across(&b[stage][column + 32 * i][depth], of_b[i]);
        }
    };
    matrix_tile<BM, BN, WARPS>(a, b, 0, p.depth(), fetch, put, [&](int m, int n, real sum) {
        if (first_row + m < p.rows() && first_column + n < p.columns()) p.store(first_row + m, first_column + n, sum);
    });
}

// A pixel of the output, which moves on without divisions.
struct Pixel {
    int image, y, x;

    __device__ __forceinline__ void move(int by, const Geometry &g) {
        x += by;
        while (x >= g.ow) {
            x -= g.ow;
            if (++y == g.oh) {
                y = 0;
                image++;
            }
        }
    }
};

// What pixels first … last add to the gradient of the weights. Rows are the taps' channels and columns channels, four of
// which lie side by side; what is summed over are pixels.
template <int BM, int BN, int WARPS>
__device__ __forceinline__ void matrix_weight_product(const Outputs &p, const map *gy, int pixels, real *parts) {
    const int ROWS = BM / 32, COLUMNS = (BN + 31) / 32;
    __shared__ __align__(16) factor a[2][BM][STRIDE];
    __shared__ __align__(16) factor b[2][BN][STRIDE];
    const Geometry &g = p.g;
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    const int depth = t % STAGE, four = t / STAGE * 4;
    const int first = blockIdx.z * pixels, last = least(first + pixels, p.rows());
    const bool fours = in_fours(p.x, g.c), gradient_fours = in_fours(gy, g.oc);
    Cursor taps[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int k = first_row + four + 32 * i, tap = k / g.c;
        taps[i] = Cursor{tap / g.kw, tap % g.kw, k % g.c};
    }
    const int start = first + depth;
    Pixel pixel{start / (g.oh * g.ow), start / g.ow % g.oh, start % g.ow};
    real of_a[ROWS][4], of_b[COLUMNS][4];
    const auto fetch = [&](int m0) {
        const int m = m0 + depth, base = pixel.image * g.h * g.w;
        const int top = pixel.y * g.sh - g.ph, left = pixel.x * g.sw - g.pw;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            of_a[i][0] = of_a[i][1] = of_a[i][2] = of_a[i][3] = 0;
            if (m < last) gather(p, fours, taps[i], base, top, left, of_a[i]);
        }
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const int n = first_column + four + 32 * i;
            of_b[i][0] = of_b[i][1] = of_b[i][2] = of_b[i][3] = 0;
            if (m >= last || n >= g.oc) continue;
            if (gradient_fours) {
                read_four(gy + m * g.oc + n, of_b[i]);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (n + j < g.oc) of_b[i][j] = gy[m * g.oc + n + j];
            }
        }
        pixel.move(STAGE, g);
    };
    const auto put = [&](int stage) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) put_across(&a[stage][four + 32 * i][depth], of_a[i]);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (four + 32 * i < BN) put_across(&b[stage][four + 32 * i][depth], of_b[i]);
    };
    matrix_tile<BM, BN, WARPS>(a, b, first, last, fetch, put, [&](int m, int n, real sum) {
        const int k = first_row + m, column = first_column + n;
        if (k < p.depth() && column < g.oc) parts[blockIdx.z * p.depth() * g.oc + k * g.oc + column] = sum;
    });
}

#define MATRIX_KERNELS(BM, BN, WARPS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_forward_##BM##x##BN(                              \
        Geometry g, const map *x, const real *w, const real *bias, map *y, double *parts) {                            \
        matrix_product<Outputs, BM, BN, WARPS>(Outputs{g, x, w, bias, y});                                             \
        if (parts) tile_moments<BM, BN>(g, y, parts);                                                                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_input_gradient_##BM##x##BN(                       \
        Geometry g, const map *gy, const real *w, const map *x, map *gx) {                                             \
        matrix_product<Inputs, BM, BN, WARPS>(Inputs{g, gy, w, x, gx});                                                \
    }
MATRIX_KERNELS(128, 16, 4)
MATRIX_KERNELS(32, 32, 2)
MATRIX_KERNELS(64, 32, 2)
MATRIX_KERNELS(64, 64, 2)

#define MATRIX_WEIGHT_KERNELS(BM, BN, WARPS)                                                                           \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS) conv_weight_gradient_##BM##x##BN(                      \
        Geometry g, const map *x, const map *gy, int pixels, real *parts) {                                            \
        matrix_weight_product<BM, BN, WARPS>(Outputs{g, x, nullptr, nullptr, nullptr}, gy, pixels, parts);             \
    }
MATRIX_WEIGHT_KERNELS(64, 16, 4)
MATRIX_WEIGHT_KERNELS(64, 32, 2)
#endif
