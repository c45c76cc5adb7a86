# What `cmake --install` puts where. Nothing installed knows the prefix, so the folder can be moved: ink and libinkstone.so find
# libinkrt.a, libinkserve.a and the models from where they lie themselves (driver/places.c), users of the library by find_package(inkstone) and
# its target inkstone::inkstone, or by pkg-config.
include(CMakePackageConfigHelpers)
set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/inkstone)
set(doc_dir ${CMAKE_INSTALL_DATADIR}/doc/inkstone)

install(TARGETS ink)
install(FILES ${inkrt} ${inkrt_cross} ${inkserve} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/ink/models FILES_MATCHING PATTERN "*.yaml")
install(FILES README.md LICENSE DESTINATION ${doc_dir})
install(DIRECTORY docs DESTINATION ${doc_dir})

install(TARGETS inkstone EXPORT inkstone)
install(FILES include/inkstone.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/inkstoneConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/inkstoneConfigVersion.cmake DESTINATION ${cmake_dir})
install(EXPORT inkstone NAMESPACE inkstone:: FILE inkstoneConfig.cmake DESTINATION ${cmake_dir})

file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(package/inkstone.pc.in ${CMAKE_BINARY_DIR}/inkstone.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/inkstone.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
