// Matrix units: a warp multiplies small matrices together. With TF32 defined, both factors are rounded to 10 bits of
// mantissa, with BF16 to 7; sums are float. Compute capability 8.0 and above.
//
// Factors lie in shared memory row by row, what is summed over side by side, in 32-bit words: one TF32 or two bf16.
// Seen in words, the fragments of both instructions are the same.

#if defined(TF32) || defined(BF16)
#define MATRIX_UNITS

#ifdef TF32
typedef unsigned factor;
#define FACTORS 1 // of a word
#define MATRIX_INSTRUCTION "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"

__device__ __forceinline__ factor to_factor(float x) {
#ifdef EMULATED
    return emulate::to_tf32(x);
#else
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#endif
}
#else
typedef unsigned short factor;
#define FACTORS 2
#define MATRIX_INSTRUCTION "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"

__device__ __forceinline__ factor to_factor(float x) { return map(x).bits; }
#endif

// What is summed over by one instruction.
#define MATRIX_DEPTH (8 * FACTORS)

// From one row of a stage in shared memory to the next: four words more than it holds, so that the eight rows that a
// fragment reads meet different banks.
template <int STAGE> struct Stride {
    static_assert(STAGE % 16 == 0, "else rows meet in a bank");
    static const int VALUE = STAGE + 4 * FACTORS;
};

// sum += left · rightᵀ of M × N fragments of 16 × 8, each thread holding its share, as the PTX ISA lays them out ("Matrix
// Fragments for mma.m16n8k8", of .tf32, and "for mma.m16n8k16", of .bf16).
template <int M, int N>
__device__ __forceinline__ void multiply_fragments(float (&sum)[M][N][4], const unsigned (&left)[M][4],
                                                   const unsigned (&right)[N][2]) {
#ifdef EMULATED
    emulate::multiply_fragments<FACTORS>(sum, left, right);
#else
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
            asm volatile(MATRIX_INSTRUCTION " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                         : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]), "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                         : "r"(left[i][0]), "r"(left[i][1]), "r"(left[i][2]), "r"(left[i][3]), "r"(right[j][0]),
                           "r"(right[j][1]));
#endif
}

// sum += a · bᵀ over a stage, of the warp's 16·M rows of a and 8·N rows of b.
template <int STAGE, int M, int N>
__device__ __forceinline__ void multiply_stage(float (&sum)[M][N][4], const factor *a, const factor *b) {
    const int STRIDE = Stride<STAGE>::VALUE;
    const int lane = threadIdx.x % 32, row = lane / 4, word = lane % 4;
    __syncwarp(); // threads that gathered by different ways multiply together
#pragma unroll
    for (int k = 0; k < STAGE; k += MATRIX_DEPTH) {
        unsigned left[M][4], right[N][2];
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                left[i][e] = *(const unsigned *)&a[(16 * i + row + e % 2 * 8) * STRIDE + k + (word + e / 2 * 4) * FACTORS];
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                right[j][e] = *(const unsigned *)&b[(8 * j + row) * STRIDE + k + (word + e * 4) * FACTORS];
        multiply_fragments(sum, left, right);
    }
}

// Where element e of a thread's share of a sum lies in its 16 × 8.
__device__ __forceinline__ int sum_row(int e) { return threadIdx.x % 32 / 4 + e / 2 * 8; }
__device__ __forceinline__ int sum_column(int e) { return threadIdx.x % 4 * 2 + e % 2; }
#endif
