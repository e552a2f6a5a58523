// One block: its threads as fibers on one thread of the system, and the scheduler that runs them in turn.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/threads.hpp"
#include "order.hpp"
#include "stacks.hpp"
#include "switch.hpp"

namespace cuda_emulator {

struct Copy {
    void* shared;
    const void* global;
    std::size_t size, zeros, batch;
};

struct Thread {
    enum class State { ready, at_barrier, at_exchange, returned };

    Context context;
    void* fake_stack = nullptr;  // AddressSanitizer's
    std::size_t number = 0;
    uint3 index{};
    State state = State::ready;
    const char* operation = "";  // what it waits at
    Where where;
    unsigned mask = 0;
    std::uint64_t value = 0;
    Exchange* exchange = nullptr;
    std::vector<Copy> copies;
    std::size_t batch = 0;
};

struct Warp {
    unsigned alive = 0, ready = 0, waiting = 0;  // lanes: not returned, able to run, at a warp operation
    // Each lane holds one until its next operation, and one more is being made.
    std::array<Exchange, warpSize + 1> exchanges;
};

class Block {
public:
    static constexpr std::size_t max_threads = 1024;

    Block() : stacks_(max_threads), threads_(max_threads), warps_(max_threads / warpSize) {}

    // Runs all threads to their end. Throws what a thread threw, or std::runtime_error when none can go on.
    void run(uint3 shape, const std::function<void()>& kernel, Order& order);

    // Called by the thread that runs.
    Thread& current() { return *current_; }
    unsigned current_lane() const { return static_cast<unsigned>(current_->number % warpSize); }
    void yield() { suspend(); }
    Votes wait_at_barrier(const char* operation, bool vote, const Where& where);
    const Exchange& wait_at_exchange(const char* operation, unsigned mask, std::uint64_t value, const Where& where);

private:
    static void enter();

    void start(uint3 shape);
    bool run_warp(std::size_t number, Order& order);
    void resume(Thread& thread);
    void suspend();
    void make_ready(Thread& thread);
    void finish(Thread& thread);
    void release_barrier_if_all_wait();
    void complete_exchange_if_all_wait(Warp& warp, const Thread& asking);
    std::string describe(const char* verdict) const;
    std::string describe_wait(const Thread& thread) const;
    Warp& warp_of(const Thread& thread) { return warps_[thread.number / warpSize]; }

    Stacks stacks_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    const std::function<void()>* kernel_ = nullptr;
    std::exception_ptr fault_;

    Context scheduler_;
    void* scheduler_fake_stack_ = nullptr;
    const void* scheduler_stack_ = nullptr;
    std::size_t scheduler_stack_size_ = 0;

    Thread* current_ = nullptr;
    std::size_t count_ = 0, alive_ = 0, at_barrier_ = 0, idle_turns_ = 0;
    const Thread* first_at_barrier_ = nullptr;
    int votes_ = 0;
    Votes last_votes_{};
};

// "CUDA emulator: block (0, 0, 0)", the head of every message.
std::string block_name();

// The block that runs; launches take turns.
Block& block();

}  // namespace cuda_emulator
