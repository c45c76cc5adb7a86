# The runtime of programs for another architecture, build/lib/libinkrt-ARCH.a, where its C compiler and its libjansson.a are
# found: what `ink build --target cpu:aarch64` links on an x86-64. The same sources by the same rules as libinkrt.a, which
# CMake, knowing one C compiler a build, cannot be told in another way than file by file.

set(inkrt_cross)
foreach(arch aarch64 x86_64)
  if(arch STREQUAL CMAKE_SYSTEM_PROCESSOR OR INK_SANITIZE OR INK_FUZZ)
    continue()
  endif()
  find_program(INK_CC_${arch} ${arch}-linux-gnu-gcc DOC "C compiler for ${arch}")
  if(NOT INK_CC_${arch})
    message(STATUS "no ${arch}-linux-gnu-gcc: ink will make no programs for ${arch}")
    continue()
  endif()
  execute_process(COMMAND ${INK_CC_${arch}} -print-file-name=libjansson.a OUTPUT_VARIABLE jansson OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(COMMAND ${INK_CC_${arch}} -print-prog-name=ar OUTPUT_VARIABLE ar OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${jansson}") # the name alone: not found
    message(STATUS "no libjansson.a for ${arch}: ink will make no programs for it")
    continue()
  endif()

  get_directory_property(rules COMPILE_OPTIONS)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  separate_arguments(type_rules UNIX_COMMAND "${CMAKE_C_FLAGS_${type}}")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/*.c ${CMAKE_SOURCE_DIR}/base/*.c)
  set(objects)
  foreach(source ${sources})
    file(RELATIVE_PATH name ${CMAKE_SOURCE_DIR} ${source})
    string(REPLACE "/" "_" name ${name})
    set(object ${CMAKE_BINARY_DIR}/inkrt-${arch}/${name}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_C_COMPILER_LAUNCHER} ${INK_CC_${arch}} -std=c17 -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR} -I${CMAKE_SOURCE_DIR}/include
        ${type_rules} ${rules} -O2 -fPIC -ffunction-sections -fdata-sections -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building ${arch} object of ${name}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/inkrt-${arch})

  set(archive ${CMAKE_BINARY_DIR}/lib/libinkrt-${arch}.a)
  list(JOIN objects "\nADDMOD " modules)
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/libinkrt-${arch}.mri
    CONTENT "CREATE ${archive}\nADDMOD ${modules}\nADDLIB ${jansson}\nSAVE\nEND\n")
  add_custom_command(OUTPUT ${archive}
    COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
    COMMAND ${ar} -M < ${CMAKE_BINARY_DIR}/libinkrt-${arch}.mri
    DEPENDS ${objects} ${CMAKE_BINARY_DIR}/libinkrt-${arch}.mri VERBATIM)
  list(APPEND inkrt_cross ${archive})
endforeach()
add_custom_target(inkrt_cross ALL DEPENDS ${inkrt_cross})
