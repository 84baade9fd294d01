// What the stand-ins of NVIDIA's libraries have in common. standin.rs makes them, the tests load them.
#pragma once
#include <atomic>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <string>
#include <vector>

namespace standin {

// A stream: work is only put on it, and happens when somebody waits. What uses a result too early, or frees a buffer that is
// still needed, is found out.
struct Stream {
    std::vector<std::function<int()>> work;
};

// A file beside the library.
static std::string beside(char const* name) {
    Dl_info info{};
    static int here;
    dladdr(&here, &info);
    std::string path = info.dli_fname ? info.dli_fname : "";
    return path.substr(0, path.rfind('/') + 1) + name;
}

// Whether the file `mode` beside the library holds that word: how a test makes things go wrong. Static, because the variables
// of an inline function are one for all copies of the library in a process.
static bool mode(char const* word) {
    static std::string const words = [] {
        char text[256] = {};
        if (FILE* file = std::fopen(beside("mode").c_str(), "r")) {
            size_t length = std::fread(text, 1, sizeof text - 1, file);
            text[length] = 0;
            std::fclose(file);
        }
        return " " + std::string(text) + " ";
    }();
    return words.find(" " + std::string(word) + " ") != std::string::npos;
}

// Whether what the test asked to fail fails this time: at once, or with `later` when it has gone well `times` times.
static bool fails(char const* word, std::atomic<int>& asked, int times) {
    return mode(word) && (!mode("later") || asked++ >= times);
}

} // namespace standin
