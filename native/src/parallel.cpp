#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace bowerbird {
namespace {

class Work {
public:
    Work(std::size_t count, const std::function<void(std::size_t)>& task) : count_(count), task_(task) {}

    void drain() {
        for (std::size_t i; (i = next_.fetch_add(1)) < count_;) {
            try {
                task_(i);
            } catch (...) {
                const std::lock_guard lock(mutex_);
                if (!fault_) fault_ = std::current_exception();
                next_.store(count_);
            }
        }
    }

    void rethrow() const {
        if (fault_) std::rethrow_exception(fault_);
    }

private:
    const std::size_t count_;
    const std::function<void(std::size_t)>& task_;
    std::atomic<std::size_t> next_{0};
    std::mutex mutex_;
    std::exception_ptr fault_;
};

}  // namespace

void parallel_for(std::size_t count, std::size_t num_threads, const std::function<void(std::size_t)>& task) {
    Work work(count, task);
    {
        std::vector<std::jthread> threads;
        const std::size_t extra = std::min(num_threads, std::max<std::size_t>(count, 1)) - 1;
        threads.reserve(extra);
        try {
            for (std::size_t i = 0; i < extra; ++i) threads.emplace_back([&work] { work.drain(); });
        } catch (const std::system_error&) {
            // The system has no thread left for us: the ones we have, the caller's at least, do all of the work.
        }
        work.drain();
    }
    work.rethrow();
}

}  // namespace bowerbird
