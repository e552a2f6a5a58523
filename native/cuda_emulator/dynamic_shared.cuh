// The shared memory whose size the launch gives, as the emulator holds it. native/cuda has the file for nvcc.
#pragma once

#include "device/threads.hpp"

namespace bowerbird {

template <class T>
T* dynamic_shared() {
    return static_cast<T*>(cuda_emulator::dynamic_shared_memory());
}

}  // namespace bowerbird
