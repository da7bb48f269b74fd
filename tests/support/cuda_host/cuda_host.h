// CUDA's kernels as host C++: one block after the other, the threads of a block as fibers that change at barriers.
//
// Force-included before a .cu file. A kernel that is launched becomes a C function `name(grid, block, arguments, order)`.
// It returns 0; or 1 where some threads of a block waited at a barrier that others never came to, which a GPU may hang
// on. `order` 0 lets threads run in the order of their numbers, 1 backwards, others mixed: a missing barrier shows as a
// difference.
#pragma once

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
// One block at a time per operating system thread, and all fibers of a block are in that thread.
#define __shared__ static thread_local
#define __syncthreads() host::barrier()

struct Dim {
    unsigned x, y, z;
};

extern "C" typedef int (*HostKernel)(const unsigned *grid, const unsigned *block, const void *arguments, int order);

namespace host {

constexpr size_t STACK = 64 << 10;

struct Fiber {
    ucontext_t first;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool started, over;
};

struct Block {
    std::vector<Fiber> fibers;
    jmp_buf scheduler;
    size_t running;
    void (*body)(const void *);
    const void *arguments;
};

inline thread_local Block *block;
inline thread_local Dim thread_index, block_index, grid_size, block_size;

inline void barrier() {
    Fiber &self = block->fibers[block->running];
    if (!_setjmp(self.place)) _longjmp(block->scheduler, 1);
}

inline void enter() {
    block->body(block->arguments);
    block->fibers[block->running].over = true;
    _longjmp(block->scheduler, 1);
}

// The first entry into a fiber goes through setcontext, all others through longjmp, which needs no system call.
inline void resume(size_t i) {
    block->running = i;
    thread_index = {unsigned(i % block_size.x), unsigned(i / block_size.x % block_size.y),
                    unsigned(i / block_size.x / block_size.y)};
    if (_setjmp(block->scheduler)) return;
    Fiber &fiber = block->fibers[i];
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.first);
}

// Every thread up to its next barrier or its end; how many ended. All or none do in a block that is right.
inline size_t pass(int order) {
    size_t over = 0, n = block->fibers.size();
    for (size_t i = 0; i < n; i++) {
        size_t turn = order == 0 ? i : order == 1 ? n - 1 - i : (i * 7919 + order) % n;
        if (!block->fibers[turn].over) resume(turn);
        over += block->fibers[turn].over;
    }
    return over;
}

inline int run(void (*body)(const void *), const unsigned *grid, const unsigned *threads, const void *arguments,
               int order) {
    Block own;
    own.fibers.resize(size_t(threads[0]) * threads[1] * threads[2]);
    own.body = body;
    own.arguments = arguments;
    block = &own;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads[0], threads[1], threads[2]};
    for (Fiber &fiber : own.fibers) fiber.stack.reset(new char[STACK]);
    int result = 0;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                block_index = {x, y, z};
                for (Fiber &fiber : own.fibers) {
                    getcontext(&fiber.first);
                    fiber.first.uc_stack.ss_sp = fiber.stack.get();
                    fiber.first.uc_stack.ss_size = STACK;
                    fiber.first.uc_link = nullptr;
                    fiber.started = fiber.over = false;
                    makecontext(&fiber.first, enter, 0);
                }
                size_t over = 0;
                while (over < own.fibers.size()) {
                    size_t now = pass(order);
                    // Threads may leave before the others only if none of these waits any more.
                    if (now != 0 && now != own.fibers.size()) result = 1;
                    over = now;
                }
            }
    block = nullptr;
    return result;
}

}  // namespace host

#define threadIdx host::thread_index
#define blockIdx host::block_index

#define KERNEL(name, Arguments)                                                                               \
    static void name##_body(const Arguments &arguments);                                                     \
    extern "C" int name(const unsigned *grid, const unsigned *threads, const void *arguments, int order) {   \
        auto body = [](const void *a) { name##_body(*static_cast<const Arguments *>(a)); };                   \
        return host::run(body, grid, threads, arguments, order);                                              \
    }                                                                                                         \
    static void name##_body(const Arguments &arguments)

struct Half {
    unsigned short bits;
};
inline float to_float(Half value) {
    _Float16 half;
    std::memcpy(&half, &value.bits, 2);
    return half;
}
inline Half to_half(float value) {
    _Float16 half = value;
    Half result;
    std::memcpy(&result.bits, &half, 2);
    return result;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline int __ffsll(unsigned long long value) { return __builtin_ffsll((long long)value); }
inline int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
template <typename T>
T atomicAdd(T *at, T value) {
    T before = *at;
    *at += value;
    return before;
}
template <typename T>
T atomicOr(T *at, T value) {
    T before = *at;
    *at |= value;
    return before;
}
