// What all kernels share. `real` is float or double, which is computed in and which weights are: a line in front of this
// file says which. `map` is what maps are stored as: `real`, or bf16 where BF16 is defined.
//
// Maps are channels last. Every sum has one order, which depends on the shapes alone: no atomics, no shuffles.
// Indices are 32 bits wide; whoever launches sees to it that no map has more elements than that.

#ifdef BF16
// The upper half of a float. Arithmetic widens it by itself; to narrow must be asked for, and rounds to the nearest,
// ties to even.
struct map {
    unsigned short bits;

    map() = default;
    __device__ __forceinline__ explicit map(float x) {
        const unsigned all = __float_as_uint(x);
        bits = (unsigned short)(x != x ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16);
    }
    __device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
#else
typedef real map;
#endif

// The maps around a sliding window: (n, h, w, c) before it, (n, oh, ow, oc) behind it.
struct Geometry {
    int n, h, w, c;
    int oh, ow, oc;
    int kh, kw, sh, sw, dh, dw, ph, pw;
    int relu; // whether max(x, 0) is applied to what the window reads
};

// Elements that a thread asks memory for before it adds up the first.
#define AHEAD 16

// max(x, 0), of NaN NaN.
__device__ __forceinline__ real positive(real x) { return x < (real)0 ? (real)0 : x; }

__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }

// Four neighbors of a map or of weights, which one instruction reads where their address allows.
template <class T> struct __align__(4 * sizeof(T)) Four {
    T of[4];
};

template <class T> __device__ __forceinline__ bool in_fours(const T *x, int row) {
    return row % 4 == 0 && (unsigned long long)x % sizeof(Four<T>) == 0;
}

template <class T> __device__ __forceinline__ void read_four(const T *x, real (&values)[4]) {
    const Four<T> four = *(const Four<T> *)x;
#pragma unroll
    for (int j = 0; j < 4; j++) values[j] = (real)four.of[j];
}

// One element or four neighbors, as a kernel is made for either.
template <class T> __device__ __forceinline__ void read_some(const T *x, real (&values)[1]) { values[0] = (real)*x; }
template <class T> __device__ __forceinline__ void read_some(const T *x, real (&values)[4]) { read_four(x, values); }

template <class T, class V> __device__ __forceinline__ void write_some(T *y, const V (&values)[1]) {
    *y = (T)values[0];
}
template <class T, class V> __device__ __forceinline__ void write_some(T *y, const V (&values)[4]) {
    Four<T> four;
#pragma unroll
    for (int j = 0; j < 4; j++) four.of[j] = (T)values[j];
    *(Four<T> *)y = four;
}
// The place of this thread among all.
__device__ __forceinline__ int place() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Adds up what the threads of a column of a block hold, two numbers each; the sums are in `sums[·][threadIdx.x]`.
// Blocks have 256 threads, a power of two of them along y.
__device__ __forceinline__ void add_columns(double (&sums)[2][256], double a, double b) {
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    sums[0][t] = a;
    sums[1][t] = b;
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.y < half) {
            sums[0][t] += sums[0][t + half * blockDim.x];
            sums[1][t] += sums[1][t + half * blockDim.x];
        }
    }
    __syncthreads();
}

// Adds up what all threads of a block of 16 × 16 hold: the sum is thread 0's.
__device__ __forceinline__ double add_square(double mine) {
    __shared__ double sums[2][256];
    add_columns(sums, mine, 0);
    double all = 0;
    if (threadIdx.x == 0 && threadIdx.y == 0)
        for (int column = 0; column < 16; column++) all += sums[0][column];
    return all;
}

// The place of a thread in a block of 16 × 16.
__device__ __forceinline__ int square_place() { return threadIdx.y * 16 + threadIdx.x; }

// Σ of `n` numbers, by one block of 16 × 16: the sum is thread 0's.
__device__ __forceinline__ double add_numbers(const double *numbers, int n) {
    double mine = 0;
    for (int at = square_place(); at < n; at += 256) mine += numbers[at];
    return add_square(mine);
}
