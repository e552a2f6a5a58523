// Takes the place of CUDA's header of this name when kernels are compiled for the emulator.
#pragma once

#include "cuda_runtime_api.h"
#include "device/memory.hpp"
#include "device/numbers.hpp"
#include "device/qualifiers.hpp"
#include "device/threads.hpp"
#include "device/vectors.hpp"
#include "device/warp.hpp"
#include "launch_kernel.hpp"
