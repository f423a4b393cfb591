// One shower of a model of `hepgan export --for par04`, called as Geant4's example Par04 calls it.
//
//   par04 MODEL.onnx ENERGY_MEV THETA_RAD < standard normal noise    prints the energy of each cell [MeV]
#include "session.hpp"

#include <cstdio>
#include <numbers>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const Session session(argv[1]);
  const double energy = std::atof(argv[2]), theta = std::atof(argv[3]);
  std::vector<float> vector = read_noise();
  vector.push_back(static_cast<float>(energy / 1024000.f));
  vector.push_back(static_cast<float>(theta * 180 / std::numbers::pi / 90.f));
  vector.push_back(0);  // geometry
  vector.push_back(1);
  const int64_t size = static_cast<int64_t>(vector.size());
  std::vector<Tensor> inputs{{{1, size}, vector}};
  for (float fraction : session.run(inputs)) std::printf("%.9g\n", fraction * energy);
}
