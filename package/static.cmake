# INK_STATIC: `llvm` becomes LLVM's archives with what they need, `static_objects` what older_glibc.c says. CMakeLists.txt has
# found the other libraries as archives already.

# What codegen/ calls, by LLVM's own list; then libz, libzstd and the C++ library.
execute_process(COMMAND ${LLVM_TOOLS_BINARY_DIR}/llvm-config --link-static --libfiles core passes x86codegen aarch64codegen orcjit
  OUTPUT_VARIABLE llvm OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(llvm)
find_library(Z_ARCHIVE NAMES libz.a REQUIRED)
find_library(ZSTD_ARCHIVE NAMES libzstd.a REQUIRED)
list(APPEND llvm ${Z_ARCHIVE} ${ZSTD_ARCHIVE} -l:libstdc++.a)

add_compile_options(-ffunction-sections -fdata-sections -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
add_link_options(-static-libgcc -Wl,--gc-sections)

add_library(ink_older_glibc OBJECT package/older_glibc.c)
set(static_objects $<TARGET_OBJECTS:ink_older_glibc>)
set(jansson ${CMAKE_BINARY_DIR}/libjansson.a)
execute_process(COMMAND ${CMAKE_OBJCOPY} --redefine-sym stdin=ink_no_stdin ${JANSSON_ARCHIVE} ${jansson} COMMAND_ERROR_IS_FATAL ANY)
set_target_properties(PkgConfig::JANSSON PROPERTIES INTERFACE_LINK_LIBRARIES ${jansson})
