// Processors other than x86-64 have one level: portable.
#pragma once

#include "bowerbird/simd.hpp"

// Declare the table portable::name, defined in <op>_portable.cpp, and the function name() that returns it.
#define BOWERBIRD_LOOPS(Table, name) \
    namespace portable {             \
    extern const Table name;         \
    }                                \
    inline const Table& name() { return portable::name; }
