// Forced in with -include where the Vulkan headers are older than 1.3.272 (Debian 12 has 1.3.239):
// the two types of VK_EXT_layer_settings that ggml-vulkan.cpp names. Never used unless validation is on.
#pragma once
#define VULKAN_HPP_DISPATCH_LOADER_DYNAMIC 1
#include <vulkan/vulkan.hpp>
#if VK_HEADER_VERSION < 272
#include <vector>
namespace vk {
enum class LayerSettingTypeEXT { eBool32 = 0 };
struct LayerSettingEXT {
    const char *layer;
    const char *name;
    LayerSettingTypeEXT type;
    uint32_t count;
    const void *values;
};
struct LayerSettingsCreateInfoEXT {
    VkStructureType sType = static_cast<VkStructureType>(1000496000);
    const void *pNext = nullptr;
    uint32_t count;
    const LayerSettingEXT *settings;
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> &given)
        : count(static_cast<uint32_t>(given.size())), settings(given.data()) {}
};
}
#endif
