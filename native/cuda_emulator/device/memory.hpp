// Atomics, cached loads and stores. One thread runs at a time, so an atomic is a plain update; it is also a point at
// which other threads run, so a wait for another thread's atomic comes to its end.
#pragma once

#include <type_traits>

#include "threads.hpp"

namespace cuda_emulator {

template <class T>
void check_aligned(const T* address, const Where& where) {
    if (reinterpret_cast<std::uintptr_t>(address) % sizeof(T) != 0) fail("misaligned address", where);
}

template <class T, class Update>
T atomic(T* address, Update update, const Where& where) {
    check_aligned(address, where);
    yield();
    const T old = *address;
    *address = update(old);
    return old;
}

}  // namespace cuda_emulator

#define CUDA_EMULATOR_ATOMIC(name, T, expression)                                                                    \
    inline T name(T* address, T value, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {        \
        return cuda_emulator::atomic(address, [value](T old) -> T { return expression; }, where);                    \
    }
#define CUDA_EMULATOR_ATOMIC_INTEGERS(name, expression)     \
    CUDA_EMULATOR_ATOMIC(name, int, expression)             \
    CUDA_EMULATOR_ATOMIC(name, unsigned int, expression)    \
    CUDA_EMULATOR_ATOMIC(name, unsigned long long, expression)

CUDA_EMULATOR_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)))
CUDA_EMULATOR_ATOMIC(atomicAdd, unsigned int, old + value)
CUDA_EMULATOR_ATOMIC(atomicAdd, unsigned long long, old + value)
CUDA_EMULATOR_ATOMIC(atomicAdd, float, old + value)
CUDA_EMULATOR_ATOMIC(atomicAdd, double, old + value)
CUDA_EMULATOR_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
CUDA_EMULATOR_ATOMIC(atomicSub, unsigned int, old - value)
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicExch, (static_cast<void>(old), value))
CUDA_EMULATOR_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
CUDA_EMULATOR_ATOMIC(atomicMin, long long, value < old ? value : old)
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicMax, value > old ? value : old)
CUDA_EMULATOR_ATOMIC(atomicMax, long long, value > old ? value : old)
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicAnd, old & value)
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicOr, old | value)
CUDA_EMULATOR_ATOMIC_INTEGERS(atomicXor, old ^ value)
CUDA_EMULATOR_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)
CUDA_EMULATOR_ATOMIC(atomicDec, unsigned int, old == 0 || old > value ? value : old - 1)
#undef CUDA_EMULATOR_ATOMIC_INTEGERS
#undef CUDA_EMULATOR_ATOMIC

#define CUDA_EMULATOR_CAS(T)                                                                                  \
    inline T atomicCAS(T* address, T expected, T value,                                                       \
                       const cuda_emulator::Where& where = cuda_emulator::Where::current()) {                 \
        return cuda_emulator::atomic(address, [=](T old) { return old == expected ? value : old; }, where);   \
    }
CUDA_EMULATOR_CAS(int)
CUDA_EMULATOR_CAS(unsigned int)
CUDA_EMULATOR_CAS(unsigned long long)
CUDA_EMULATOR_CAS(unsigned short)
#undef CUDA_EMULATOR_CAS

#define CUDA_EMULATOR_LOAD(name)                                                                              \
    template <class T>                                                                                        \
    T name(const T* address, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {           \
        cuda_emulator::check_aligned(address, where);                                                         \
        return *address;                                                                                      \
    }
CUDA_EMULATOR_LOAD(__ldg)
CUDA_EMULATOR_LOAD(__ldca)
CUDA_EMULATOR_LOAD(__ldcg)
CUDA_EMULATOR_LOAD(__ldcs)
CUDA_EMULATOR_LOAD(__ldcv)
CUDA_EMULATOR_LOAD(__ldlu)
#undef CUDA_EMULATOR_LOAD

#define CUDA_EMULATOR_STORE(name)                                                                             \
    template <class T>                                                                                        \
    void name(T* address, std::type_identity_t<T> value,                                                      \
              const cuda_emulator::Where& where = cuda_emulator::Where::current()) {                          \
        cuda_emulator::check_aligned(address, where);                                                         \
        *address = value;                                                                                     \
    }
CUDA_EMULATOR_STORE(__stcg)
CUDA_EMULATOR_STORE(__stcs)
CUDA_EMULATOR_STORE(__stwb)
CUDA_EMULATOR_STORE(__stwt)
#undef CUDA_EMULATOR_STORE
