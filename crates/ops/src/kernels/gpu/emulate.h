// Runs kernels on the host: blocks one after the other, a block's threads as fibers that change places where they wait
// for each other. For tests.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define EMULATED
#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct Place {
    unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

static double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

namespace emulate {

const size_t STACK = 256 << 10;

// Whom a thread waits for.
enum Wait { FOR_BLOCK, FOR_WARP };

struct Fiber {
    ucontext_t context;
    Place place;
    Wait wait;
    unsigned multiplied; // products of its warp so far
    bool done;
};

static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static ucontext_t scheduler;
static Fiber *current;
static void (*body)(void *);
static void *arguments;
static unsigned next, ended; // threads of the block
static bool backwards;

// Runs one thread after the other until none is left that has not begun; a kernel in which nobody waits needs one fiber.
static void work() {
    const unsigned n = blockDim.x * blockDim.y;
    while (next < n) {
        const unsigned i = backwards ? n - 1 - next : next;
        next++;
        threadIdx = current->place = Place{i % blockDim.x, i / blockDim.x, 0};
        body(arguments);
        ended++;
    }
    current->done = true;
    swapcontext(&current->context, &scheduler);
}

static void resume(Fiber &fiber) {
    current = &fiber;
    threadIdx = fiber.place;
    swapcontext(&scheduler, &fiber.context);
}

static void begin(Fiber &fiber, char *stack) {
    fiber.done = false;
    fiber.multiplied = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, work, 0);
    resume(fiber);
}

static unsigned number(const Place &place) { return place.y * blockDim.x + place.x; }

// Resumes the threads that need not wait any longer: those of warps that multiply, else all. False if a warp's threads
// wait for different things.
static bool resume_all(unsigned used) {
    bool multiplying = false;
    for (unsigned i = 0; i < used; i++) {
        multiplying |= fibers[i].wait == FOR_WARP;
        const bool same_warp = i > 0 && number(fibers[i].place) / 32 == number(fibers[i - 1].place) / 32;
        if (same_warp && fibers[i].wait != fibers[i - 1].wait) return false;
    }
    for (unsigned i = 0; i < used; i++)
        if (!fibers[i].done && (!multiplying || fibers[i].wait == FOR_WARP)) resume(fibers[i]);
    return true;
}

// Every thread of a block runs up to the next wait, then all once more, until all are done. Backwards it is the last one
// first; a kernel that forgets to wait gives other numbers then.
static bool block() {
    const unsigned n = blockDim.x * blockDim.y;
    if (fibers.size() < n) {
        fibers.resize(n);
        stacks.resize(n * STACK);
    }
    next = ended = 0;
    unsigned used = 0;
    for (; next < n; used++) begin(fibers[used], &stacks[used * STACK]);
    while (ended < n) {
        if (ended > 0) return false; // on a device those that wait would wait for ever
        if (!resume_all(used)) return false;
    }
    return true;
}

static void wait(Wait whom) {
    current->wait = whom;
    swapcontext(&current->context, &scheduler);
}

template <class... A, size_t... I> static void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A> *>(args[I])...);
}

template <class... A> struct Call {
    void (*kernel)(A...);
    void **args;
    static void run(void *self) {
        Call *call = static_cast<Call *>(self);
        emulate::call(call->kernel, call->args, std::index_sequence_for<A...>());
    }
};

// As cuLaunchKernel; false if some threads of a block wait for others that have ended.
template <class... A>
static bool launch(void (*kernel)(A...), const unsigned *blocks, const unsigned *threads, void **args, bool order) {
    backwards = order;
    Call<A...> call{kernel, args};
    body = Call<A...>::run;
    arguments = &call;
    gridDim = Place{blocks[0], blocks[1], blocks[2]};
    blockDim = Place{threads[0], threads[1], 1};
    for (unsigned z = 0; z < blocks[2]; z++)
        for (unsigned y = 0; y < blocks[1]; y++)
            for (unsigned x = 0; x < blocks[0]; x++) {
                blockIdx = Place{x, y, z};
                if (!block()) return false;
            }
    return true;
}

// As `cvt.rna.tf32.f32`: to the nearest with 10 bits of mantissa, ties away from zero.
static unsigned to_tf32(float x) {
    return x != x ? 0x7fffe000 : (__float_as_uint(x) + 0x1000) & ~0x1fffu;
}

// What every thread of a warp holds of the factors.
struct Fragments {
    unsigned left[4][4], right[4][2];
};

// Twice, since a thread may hand out its next fragments while another still reads the last.
static Fragments exchanged[2][1024];

// As `mma.sync.aligned.m16n8k8` of TF32, where a word holds one factor, and `m16n8k16` of bf16, where it holds two, the
// first in its lower half: with `group = lane / 4` and `member = lane % 4`, register i of the left factor holds row
// `group + 8·(i % 2)`, word `member + 4·(i / 2)`; register i of the right one column `group`, word `member + 4·i`; number
// i of the sum is at row `group + 8·(i / 2)`, column `2·member + i % 2`.
template <int FACTORS, int M, int N>
static void multiply_fragments(float (&sum)[M][N][4], const unsigned (&left)[M][4], const unsigned (&right)[N][2]) {
    static_assert(M <= 4 && N <= 4, "there is room for so many fragments");
    const unsigned thread = number(threadIdx), lane = thread % 32;
    Fragments *turn = exchanged[current->multiplied++ % 2], *warp = turn + thread / 32 * 32;
    std::memcpy(turn[thread].left, left, sizeof left);
    std::memcpy(turn[thread].right, right, sizeof right);
    wait(FOR_WARP);
    const auto factor = [](unsigned word, int half) {
        return __uint_as_float(FACTORS == 1 ? word : half ? word & 0xffff0000u : word << 16);
    };
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (unsigned e = 0; e < 4; e++) {
                const unsigned row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
                for (unsigned word = 0; word < 8; word++)
                    for (int half = 0; half < FACTORS; half++) {
                        const unsigned of_row = row % 8 * 4 + word % 4, of_column = column * 4 + word % 4;
                        sum[i][j][e] += factor(warp[of_row].left[i][row / 8 + word / 4 * 2], half) *
                                        factor(warp[of_column].right[j][word / 4], half);
                    }
            }
}

} // namespace emulate

static void __syncthreads() { emulate::wait(emulate::FOR_BLOCK); }

// Of what a warp does together here, only products exchange anything, and those wait by themselves.
static void __syncwarp() {}
