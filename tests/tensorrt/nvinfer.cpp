// A stand-in for libnvinfer.so.8, .10 and .11 (-DLAYOUT=8, 10, 11): C++ classes whose virtual tables have the functions that
// are used where the real ones have them, and a trap everywhere else. The compiler, not a table of ours, lays them out.
//
// A plan is a line of text: its input, its outputs, their sizes. The "network" writes one box per anchor; the score of the first
// two is the picture's first value, so that a test sees which picture went where.
#include "standin.h"
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

using standin::fails, standin::mode;

#ifndef VERSION
#error "which version?"
#endif

// ------------------------------------------------------------------------------------------------ virtual tables

// The destructor's two slots: 0 and 1.
struct Root {
    virtual ~Root() noexcept = default;
};

// `Count` functions more than `Base` has, none of which may be called.
template <typename Base, int Count>
struct Traps : Traps<Base, Count - 1> {
    struct Tag {};
    virtual void trap(Tag*) noexcept {
        std::fprintf(stderr, "a function was called that is not used: trap %d\n", Count);
        std::abort();
    }
};
template <typename Base>
struct Traps<Base, 0> : Base {};

#if LAYOUT == 8
struct Dims { int32_t count; int32_t sizes[8]; };
#else
struct Dims { int32_t count; int64_t sizes[8]; };
#endif

enum class Severity : int32_t { INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE };

#if LAYOUT == 11
struct InterfaceInfo { char const* kind; int32_t major; int32_t minor; };
struct Versioned {
    virtual int32_t getAPILanguage() const noexcept = 0;
    virtual InterfaceInfo getInterfaceInfo() const noexcept = 0;
    virtual ~Versioned() noexcept = default;
};
struct Logger : Versioned {
    virtual void log(Severity, char const*) noexcept = 0;
};
#else
struct Logger {
    virtual void log(Severity, char const*) noexcept = 0;
    virtual ~Logger() = default;
};
#endif

// A public object: a table with the destructor, then the implementation.
struct Public {
    explicit Public(Root* implementation) : mImpl(implementation) {}
    virtual ~Public() noexcept { delete mImpl; }
    Root* mImpl;
};

// The real functions, as far as they are used, each with the traps that stand before it.
#if LAYOUT == 8
struct VRuntime : Root {
    virtual Public* deserialize(void const*, size_t, void*) noexcept = 0; // 2
};
struct E1 : Traps<Root, 9> { virtual Public* createContext() noexcept = 0; }; // 11
struct E2 : Traps<E1, 22> {
    virtual Dims getTensorShape(char const*) const noexcept = 0;       // 34
    virtual int32_t getTensorDataType(char const*) const noexcept = 0; // 35
};
struct E3 : Traps<E2, 2> { virtual int32_t getTensorMode(char const*) const noexcept = 0; }; // 38
struct VEngine : Traps<E3, 6> {
    virtual int32_t getTensorCount() const noexcept = 0;           // 45
    virtual char const* getTensorName(int32_t) const noexcept = 0; // 46
};
struct C1 : Traps<Root, 27> {
    virtual bool setInputShape(char const*, Dims const&) noexcept = 0; // 29
    virtual Dims getTensorShape(char const*) const noexcept = 0;       // 30
};
struct C2 : Traps<C1, 1> { virtual bool setTensorAddress(char const*, void*) noexcept = 0; }; // 32
struct VContext : Traps<C2, 11> { virtual bool enqueue(void*) noexcept = 0; };                // 44
#else
struct VRuntime : Traps<Root, 1> {
    virtual Public* deserialize(void const*, size_t) noexcept = 0; // 3
};
struct E1 : Traps<Root, 3> { virtual Public* createContext(int32_t) noexcept = 0; }; // 5
#if LAYOUT == 10
struct E2 : Traps<E1, 13> { // 19, 20
#else
struct E2 : Traps<E1, 9> { // 15, 16
#endif
    virtual Dims getTensorShape(char const*) const noexcept = 0;
    virtual int32_t getTensorDataType(char const*) const noexcept = 0;
};
struct E3 : Traps<E2, 2> { virtual int32_t getTensorMode(char const*) const noexcept = 0; }; // 23, 19
struct VEngine : Traps<E3, 6> {
    virtual int32_t getTensorCount() const noexcept = 0;           // 30, 26
    virtual char const* getTensorName(int32_t) const noexcept = 0; // 31, 27
};
#if LAYOUT == 10
struct C1 : Traps<Root, 19> { // 21, 22
#else
struct C1 : Traps<Root, 18> { // 20, 21
#endif
    virtual bool setInputShape(char const*, Dims const&) noexcept = 0;
    virtual Dims getTensorShape(char const*) const noexcept = 0;
};
struct C2 : Traps<C1, 1> { virtual bool setTensorAddress(char const*, void*) noexcept = 0; }; // 24, 23
struct VContext : Traps<C2, 12> { virtual bool enqueue(void*) noexcept = 0; };                // 37, 36
#endif

// ------------------------------------------------------------------------------------------------ what they do

// plan <input> <batch> <height> <width> <output> <channels> <anchors>
struct Plan {
    char input[64], output[64];
    int batch, height, width, channels, anchors;
    size_t picture() const { return size_t(3) * size_t(height) * size_t(width); }
    size_t boxes() const { return size_t(channels) * size_t(anchors); }
};

Logger* logger;

int dataType() { return mode("half") ? 1 : mode("bytes") ? 5 : 0; }

float half(uint16_t bits) { // normal numbers and zero
    float magnitude = bits & 0x7fff ? std::ldexp(1.0f + float(bits & 0x3ff) / 1024.0f, ((bits >> 10) & 31) - 15) : 0.0f;
    return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t half(float value) { // numbers whose fraction has ten bits
    if (value == 0.0f) return 0;
    int exponent;
    float fraction = std::frexp(std::fabs(value), &exponent) * 2.0f - 1.0f;
    return uint16_t((value < 0 ? 0x8000 : 0) | ((exponent + 14) << 10) | int(fraction * 1024.0f));
}

float read(void const* at, size_t index) {
    return mode("half") ? half(static_cast<uint16_t const*>(at)[index]) : static_cast<float const*>(at)[index];
}

void write(void* at, size_t index, float value) {
    if (mode("half")) static_cast<uint16_t*>(at)[index] = half(value);
    else static_cast<float*>(at)[index] = value;
}

// One line for each run: how many pictures it had.
void record(int frames) {
    static std::mutex guard;
    std::lock_guard<std::mutex> lock(guard);
    if (FILE* file = std::fopen(standin::beside("batches").c_str(), "a")) {
        std::fprintf(file, "%d\n", frames);
        std::fclose(file);
    }
}

std::atomic<int> enqueued{0}; // for failures that come after the two trials

struct Context final : VContext {
    explicit Context(Plan const& plan) : plan(plan), frames(plan.batch) {}

    bool setInputShape(char const* name, Dims const& dims) noexcept override {
        if (std::strcmp(name, plan.input) || dims.count != 4 || dims.sizes[1] != 3 || dims.sizes[2] != plan.height || dims.sizes[3] != plan.width) return false;
        if (dims.sizes[0] < 1 || dims.sizes[0] > 8 || plan.batch != -1) return false; // the profile
        frames = int(dims.sizes[0]);
        return true;
    }
    Dims getTensorShape(char const* name) const noexcept override {
        if (std::strcmp(name, plan.output)) return Dims{-1, {}};
        if (mode("data-dependent")) return Dims{3, {frames, -1, 6}};
        if (mode("one-answer")) return Dims{3, {1, plan.channels, plan.anchors}};
        return Dims{3, {frames, plan.channels, plan.anchors}};
    }
    bool setTensorAddress(char const* name, void* at) noexcept override {
        addresses[name] = at;
        return reinterpret_cast<uintptr_t>(at) % 256 == 0;
    }
    bool enqueue(void* stream) noexcept override {
        if (fails("enqueue-failure", enqueued, 2) || frames < 1 || !addresses[plan.input] || !addresses[plan.output]) {
            logger->log(Severity::ERROR, "the stand-in was told not to run");
            return false;
        }
        if (mode("record")) record(frames);
        auto now = plan;
        auto count = frames;
        void *from = addresses[plan.input], *to = addresses[plan.output];
        static_cast<standin::Stream*>(stream)->work.push_back([=] {
            for (int frame = 0; frame < count; frame++)
                for (int anchor = 0; anchor < now.anchors; anchor++) {
                    // Centre, size, then a score for each class: only the first is not 0.
                    float score = anchor < 2 ? read(from, size_t(frame) * now.picture()) : 0.0f;
                    float values[5] = {8.0f + 16.0f * float(anchor), 8.0f, 8.0f, 8.0f, score};
                    for (int channel = 0; channel < now.channels; channel++) {
                        size_t index = size_t(frame) * now.boxes() + size_t(channel) * size_t(now.anchors) + size_t(anchor);
                        write(to, index, channel < 5 ? values[channel] : 0.0f);
                    }
                }
            return 0;
        });
        return true;
    }
    Plan plan;
    int frames;
    std::map<std::string, void*> addresses;
};

struct Engine final : VEngine {
    explicit Engine(Plan const& plan) : plan(plan) {}

#if LAYOUT == 8
    Public* createContext() noexcept override {
#else
    Public* createContext(int32_t strategy) noexcept override {
        if (strategy != 0) return nullptr;
#endif
        if (mode("null-context")) return nullptr;
        return new Public(new Context(plan));
    }
    Dims getTensorShape(char const* name) const noexcept override {
        if (std::strcmp(name, plan.input) == 0) return Dims{4, {plan.batch, mode("wrong-dims") ? 4 : 3, plan.height, plan.width}};
        return Dims{3, {plan.batch, plan.channels, plan.anchors}};
    }
    int32_t getTensorDataType(char const*) const noexcept override { return dataType(); }
    int32_t getTensorMode(char const* name) const noexcept override { return std::strcmp(name, plan.input) ? 2 : 1; }
    // The output first: the order is the library's business.
    int32_t getTensorCount() const noexcept override { return mode("many-tensors") ? 1 << 30 : 2; }
    char const* getTensorName(int32_t index) const noexcept override {
        if (mode("nameless")) return nullptr;
        return index == 0 ? plan.output : plan.input;
    }
    Plan plan;
};

struct Runtime final : VRuntime {
#if LAYOUT == 8
    Public* deserialize(void const* blob, size_t size, void* factory) noexcept override {
        if (factory) std::abort();
#else
    Public* deserialize(void const* blob, size_t size) noexcept override {
#endif
        std::string text(static_cast<char const*>(blob), size);
        Plan plan{};
        int read = std::sscanf(text.c_str(), "plan %63s %d %d %d %63s %d %d", plan.input, &plan.batch, &plan.height, &plan.width,
            plan.output, &plan.channels, &plan.anchors);
        if (read != 7 || mode("null-engine")) {
            logger->log(Severity::ERROR, "the stand-in cannot read this plan");
            return nullptr;
        }
        return new Public(new Engine(plan));
    }
};

extern "C" int32_t getInferLibVersion() noexcept {
    return mode("unknown-version") ? 94567 : mode("8.6") ? 8601 : mode("10.16") ? 101600 : VERSION;
}

#ifndef WITHOUT_RUNTIME
extern "C" void* createInferRuntime_INTERNAL(void* given, int32_t version) noexcept {
    if (version != getInferLibVersion() || mode("null-runtime")) return nullptr;
    logger = static_cast<Logger*>(given);
#if LAYOUT == 11
    if (logger->getAPILanguage() != 0 || std::strcmp(logger->getInterfaceInfo().kind, "ILogger")) return nullptr;
#endif
    logger->log(Severity::INFO, "the stand-in begins");
    return new Public(new Runtime);
}
#endif
