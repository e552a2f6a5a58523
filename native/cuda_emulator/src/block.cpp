#include "block.hpp"

#include <bit>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "device/sanitizer.hpp"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace cuda_emulator {
namespace {

// A block whose threads all had this many turns, and none came to an end or past a barrier or warp operation, waits for
// something that does not come.
constexpr std::size_t max_idle_turns = std::size_t{1} << 20;

std::string place(const Where& where) {
    const std::string path = where.file_name();
    return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string text_of(uint3 index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

bool same_place(const Where& a, const Where& b) {
    const bool same_file = a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0;
    return same_file && a.line() == b.line() && a.column() == b.column();
}

}  // namespace

std::string block_name() { return "CUDA emulator: block " + text_of(blockIdx); }

Block& block() {
    static Block the_block;
    return the_block;
}

void fail(const std::string& fault, const Where& where) {
    throw std::runtime_error(block_name() + ", thread " + text_of(threadIdx) + ", " + place(where) + ": " + fault);
}

void Block::run(uint3 shape, const std::function<void()>& kernel, Order& order) {
    kernel_ = &kernel;
    start(shape);
    const std::size_t warps = (count_ + warpSize - 1) / warpSize;
    while (alive_ > 0) {
        bool moved = false;
        Walk walk = order.walk(warps);
        for (std::size_t i = 0; i < warps; ++i) moved |= run_warp(walk.next(), order);
        if (!moved) throw std::runtime_error(describe("no thread can go on"));
        if (++idle_turns_ > max_idle_turns) throw std::runtime_error(describe("threads spin and none comes on"));
    }
}

void Block::start(uint3 shape) {
    // A launch that ended by a fault left frames on the stacks of threads that had not returned.
    for (std::size_t i = 0; alive_ > 0 && i < count_; ++i) allow(stacks_.begin(i), Stacks::stack_bytes);
    fault_ = nullptr;
    count_ = alive_ = std::size_t{shape.x} * shape.y * shape.z;
    at_barrier_ = idle_turns_ = 0;
    votes_ = 0;
    first_at_barrier_ = nullptr;
    uint3 index{0, 0, 0};
    for (std::size_t i = 0; i < count_; ++i) {
        Thread& thread = threads_[i];
        prepare(thread.context, stacks_.begin(i), Stacks::size(i), &Block::enter);
        thread.fake_stack = nullptr;
        thread.number = i;
        thread.index = index;
        thread.state = Thread::State::ready;
        thread.exchange = nullptr;
        thread.copies.clear();
        thread.batch = 0;
        if (++index.x == shape.x) index.x = 0, ++index.y;
        if (index.y == shape.y) index.y = 0, ++index.z;
    }
    for (std::size_t first = 0; first < count_; first += warpSize) {
        Warp& warp = warps_[first / warpSize];
        warp.alive = warp.ready = count_ - first >= warpSize ? all_lanes : (1U << (count_ - first)) - 1;
        warp.waiting = 0;
        for (Exchange& exchange : warp.exchanges) exchange.readers = 0;
    }
}

// Each lane that can run gets one turn. False if there was none.
bool Block::run_warp(std::size_t number, Order& order) {
    Warp& warp = warps_[number];
    if (warp.ready == 0) return false;
    Walk walk = order.walk(warpSize);
    for (int i = 0; i < warpSize; ++i) {
        const std::size_t lane = walk.next();
        if ((warp.ready >> lane & 1) != 0) resume(threads_[number * warpSize + lane]);
    }
    return true;
}

// ---- changing stacks ----

void Block::resume(Thread& thread) {
    current_ = &thread;
    threadIdx = thread.index;
    start_switch(&scheduler_fake_stack_, stacks_.begin(thread.number), Stacks::size(thread.number));
    switch_context(scheduler_, thread.context);
    finish_switch(scheduler_fake_stack_, nullptr, nullptr);
    if (fault_) std::rethrow_exception(fault_);
}

void Block::suspend() {
    Thread& thread = *current_;
    void** fake_stack = thread.state == Thread::State::returned ? nullptr : &thread.fake_stack;
    start_switch(fake_stack, scheduler_stack_, scheduler_stack_size_);
    switch_context(thread.context, scheduler_);
    finish_switch(thread.fake_stack, &scheduler_stack_, &scheduler_stack_size_);
}

// The whole life of a thread.
void Block::enter() {
    Block& self = block();
    finish_switch(nullptr, &self.scheduler_stack_, &self.scheduler_stack_size_);
    Thread& thread = *self.current_;
    try {
        (*self.kernel_)();
        self.finish(thread);
    } catch (...) {
        self.fault_ = std::current_exception();
        thread.state = Thread::State::returned;
    }
    self.suspend();
}

void Block::make_ready(Thread& thread) {
    thread.state = Thread::State::ready;
    warp_of(thread).ready |= 1U << thread.number % warpSize;
    idle_turns_ = 0;
}

// A thread that returns may be the one that others waited for.
void Block::finish(Thread& thread) {
    Warp& warp = warp_of(thread);
    const unsigned bit = 1U << thread.number % warpSize;
    thread.state = Thread::State::returned;
    warp.ready &= ~bit;
    warp.alive &= ~bit;
    --alive_;
    idle_turns_ = 0;
    release_barrier_if_all_wait();
    for (unsigned left = warp.waiting; left != 0; left &= left - 1) {
        const Thread& other = threads_[thread.number / warpSize * warpSize + std::countr_zero(left)];
        if (other.state == Thread::State::at_exchange) complete_exchange_if_all_wait(warp, other);
    }
}

// ---- barriers of the block ----

Votes Block::wait_at_barrier(const char* operation, bool vote, const Where& where) {
    Thread& thread = *current_;
    if (at_barrier_ == 0) {
        first_at_barrier_ = &thread;
    } else if (!same_place(first_at_barrier_->where, where)) {
        fail(std::string("divergent barrier: this thread is at ") + operation + ", thread " +
                 text_of(first_at_barrier_->index) + " at " + describe_wait(*first_at_barrier_),
             where);
    }
    thread.state = Thread::State::at_barrier;
    thread.operation = operation;
    thread.where = where;
    warp_of(thread).ready &= ~(1U << current_lane());
    ++at_barrier_;
    votes_ += vote ? 1 : 0;
    release_barrier_if_all_wait();
    suspend();
    return last_votes_;
}

void Block::release_barrier_if_all_wait() {
    if (at_barrier_ == 0 || at_barrier_ != alive_) return;
    last_votes_ = {votes_, static_cast<int>(at_barrier_)};
    votes_ = 0;
    at_barrier_ = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        if (threads_[i].state == Thread::State::at_barrier) make_ready(threads_[i]);
    }
}

// ---- operations of a warp ----

const Exchange& Block::wait_at_exchange(const char* operation, unsigned mask, std::uint64_t value, const Where& where) {
    Thread& thread = *current_;
    const unsigned bit = 1U << current_lane();
    if ((mask & bit) == 0) fail(std::string(operation) + ": the mask leaves out the lane that calls", where);
    if (thread.exchange != nullptr) --thread.exchange->readers;
    thread.exchange = nullptr;
    thread.state = Thread::State::at_exchange;
    thread.operation = operation;
    thread.where = where;
    thread.mask = mask;
    thread.value = value;
    Warp& warp = warp_of(thread);
    warp.ready &= ~bit;
    warp.waiting |= bit;
    complete_exchange_if_all_wait(warp, thread);
    suspend();
    return *thread.exchange;
}

void Block::complete_exchange_if_all_wait(Warp& warp, const Thread& asking) {
    const unsigned taking_part = asking.mask & warp.alive;
    if ((taking_part & ~warp.waiting) != 0) return;
    Thread* lanes = &threads_[asking.number / warpSize * warpSize];
    for (unsigned left = taking_part; left != 0; left &= left - 1) {
        const Thread& lane = lanes[std::countr_zero(left)];
        if (lane.mask != asking.mask || std::strcmp(lane.operation, asking.operation) != 0) return;
    }
    Exchange* exchange = warp.exchanges.data();
    while (exchange->readers != 0) ++exchange;
    exchange->present = taking_part;
    exchange->readers = std::popcount(taking_part);
    warp.waiting &= ~taking_part;
    for (unsigned left = taking_part; left != 0; left &= left - 1) {
        Thread& lane = lanes[std::countr_zero(left)];
        exchange->values[std::countr_zero(left)] = lane.value;
        lane.exchange = exchange;
        make_ready(lane);
    }
}

// ---- what to say when nothing moves ----

std::string Block::describe_wait(const Thread& thread) const {
    switch (thread.state) {
        case Thread::State::ready: return "running";
        case Thread::State::returned: return "returned";
        case Thread::State::at_barrier: return std::string(thread.operation) + ", " + place(thread.where);
        case Thread::State::at_exchange: break;
    }
    char mask[16];
    std::snprintf(mask, sizeof(mask), "0x%08x", thread.mask);
    return std::string(thread.operation) + " with mask " + mask + ", " + place(thread.where);
}

// Runs of threads in the same state share a line; threads are numbered with x fastest, as in a warp.
std::string Block::describe(const char* verdict) const {
    std::string text = block_name() + ": " + verdict;
    for (std::size_t first = 0, end = 0; first < count_; first = end) {
        const std::string state = describe_wait(threads_[first]);
        end = first + 1;
        while (end < count_ && describe_wait(threads_[end]) == state) ++end;
        text += "\n  threads " + std::to_string(first) + " to " + std::to_string(end - 1) + ": " + state;
    }
    return text;
}

}  // namespace cuda_emulator
