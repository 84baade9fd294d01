// What the stand-ins of NVIDIA's libraries have in common. They are made and loaded by src/infer/tensorrt/tests.rs.
#pragma once
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

// Whether the file `mode` beside the library holds that word: how a test makes things go wrong. Static, because the variables
// of an inline function are one for all copies of the library in a process.
static bool mode(char const* word) {
    static std::string const words = [] {
        Dl_info info{};
        static int here;
        dladdr(&here, &info);
        std::string path = info.dli_fname ? info.dli_fname : "";
        path = path.substr(0, path.rfind('/') + 1) + "mode";
        char text[256] = {};
        if (FILE* file = std::fopen(path.c_str(), "r")) {
            size_t length = std::fread(text, 1, sizeof text - 1, file);
            text[length] = 0;
            std::fclose(file);
        }
        return " " + std::string(text) + " ";
    }();
    return words.find(" " + std::string(word) + " ") != std::string::npos;
}

} // namespace standin
