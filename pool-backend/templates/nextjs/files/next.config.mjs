/** @type {import("next").NextConfig} */
export default {
  // The page comes from the workspace's own address.
  allowedDevOrigins: ["*"],
};
